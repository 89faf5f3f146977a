import numpy as np
import pytest
import torch

from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.scoring import document_loglikelihoods, embed, loglikelihoods
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


def test_a_long_document_is_scored_in_windows_that_share_one_token(make_llm, model, tokenizer):
    llm = make_llm(block_size=4, max_num_batched_tokens=24, max_model_len=32)
    documents = [list(b"a document of more than two windows, " * 2), list(b"a short one"), [7], list(b"x" * 32)]
    scored = document_loglikelihoods(llm, documents)
    for document, likelihood in zip(documents, scored, strict=True):
        want = []
        for start in range(0, len(document) - 1, 31):
            window = document[start : start + 32]
            with torch.inference_mode():
                scores = model.logits(model(torch.tensor([window])))[0, :, : tokenizer.vocab_size].log_softmax(-1)
            want += [scores[index, token].item() for index, token in enumerate(window[1:])]
        assert len(likelihood.logprobs) == len(document) - 1
        np.testing.assert_allclose(likelihood.logprobs, want, atol=1e-4)


def test_questions_with_one_context_compute_it_once(make_llm):
    llm = make_llm(block_size=4)
    context = list(b"a context that all of the answers below have in common")
    computed = []
    run = llm.engine.runner.run
    llm.engine.runner.run = lambda chunks: computed.extend(chunk.num_tokens for chunk in chunks) or run(chunks)
    loglikelihoods(llm, [(context, list(answer)) for answer in (b"yes", b"no", b"perhaps", b"never")])
    assert len(context) <= sum(computed) < 2 * len(context)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("config", [{}, {"block_size": 4, "max_num_batched_tokens": 7}])
def test_embeddings_do_not_depend_on_batch_chunks_or_cache(make_llm, model, pooling, config):
    llm = make_llm(**config)
    texts = [list(b"hello"), list(b"a longer text than that"), [7], list(b"a longer text than this")]
    for _ in range(2):  # the second time they are in the cache
        vectors = embed(llm, texts, pooling)
        for text, vector in zip(texts, vectors, strict=True):
            with torch.inference_mode():
                states = model(torch.tensor([text]))[0]
            want = states.mean(0) if pooling == "mean" else states[-1]
            np.testing.assert_allclose(vector, (want / want.norm()).numpy(), atol=1e-5)


def test_an_embedding_survives_preemption(make_llm, model):
    llm = make_llm(block_size=4, num_blocks=40, max_model_len=128, max_num_batched_tokens=8)
    others = [llm.stream([value], SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)) for value in range(4)]
    text = list(b"a text that is read while others write, and stopped")
    [vector] = embed(llm, [text], "mean")
    for other in others:
        other.result()
    with torch.inference_mode():
        want = model(torch.tensor([text]))[0].mean(0)
    np.testing.assert_allclose(vector, (want / want.norm()).numpy(), atol=1e-5)


@pytest.mark.parametrize("text", [[], [1] * 257, [999]])
def test_texts_that_cannot_be_embedded_are_refused(llm, text):
    with pytest.raises(RequestError):
        embed(llm, [text])
