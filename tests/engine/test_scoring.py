import numpy as np
import pytest
import torch

from qianwen.engine.scoring import embed, embed_batch, loglikelihoods
from qianwen.runtime.errors import RequestError


def test_likelihoods_are_those_of_the_full_forward(make_llm, model, tokenizer, greedy):
    llm = make_llm(block_size=4, max_num_batched_tokens=24)
    context = list(b"a context that all of them share, ")
    best = greedy(context, 3)
    pairs = [(context, list(b"yes")), (context, list(b"no, never")), (context, best), ([], list(b"text"))]
    got = loglikelihoods(llm, pairs)
    for (before, after), likelihood in zip(pairs, got, strict=True):
        before = before or [tokenizer.eod_id]
        with torch.inference_mode():
            scores = model.logits(model(torch.tensor([before + after])))[0, :, : tokenizer.vocab_size].log_softmax(-1)
        want = [scores[len(before) + index - 1, token].item() for index, token in enumerate(after)]
        np.testing.assert_allclose(likelihood.logprobs, want, atol=1e-4)
        assert likelihood.total == pytest.approx(sum(want), abs=1e-3)
    assert [likelihood.is_greedy for likelihood in got][:3] == [False, False, True]


def test_embeddings_do_not_depend_on_their_neighbours(llm, model):
    texts = [list(b"hello"), list(b"a longer text than that"), [7]]
    for pooling in ("last", "mean"):
        together = embed_batch(llm.engine, texts, pooling)
        assert together.shape == (3, 64)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
        for text, vector in zip(texts, together, strict=True):
            np.testing.assert_allclose(embed(llm.engine, text, pooling), vector, atol=1e-5)
    with torch.inference_mode():
        states = model(torch.tensor([texts[1]]))[0]
    want = states.mean(0) / states.mean(0).norm()
    np.testing.assert_allclose(embed(llm.engine, texts[1], "mean"), want.numpy(), atol=1e-5)


@pytest.mark.parametrize("text", [[], [1] * 257])
def test_what_cannot_be_embedded(llm, text):
    with pytest.raises(RequestError, match=str(len(text))):
        embed(llm.engine, text)
