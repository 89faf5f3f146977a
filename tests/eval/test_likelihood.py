"""Every token of a text is charged, once, whatever it is computed beside."""

import math

import pytest
import torch

from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.eval import likelihood
from qianwen.eval.likelihood import likelihoods
from qianwen.eval.task import Loglikelihood
from qianwen.runtime.errors import RequestError

TEXTS = ["a", "some words", "longer than the window: " + "abc " * 40, "数字"]


def ask(llm: LLM, *examples: Loglikelihood, max_len: int = 64) -> list[tuple[float, int]]:
    answers = likelihoods(llm.engine.runner.model, llm.tokenizer, examples, max_len)
    return [(answer.logprob, answer.num_tokens) for answer in answers]


def test_a_document_is_charged_whole(llm: LLM) -> None:
    for text in TEXTS:
        ((_, count),) = ask(llm, Loglikelihood(continuation=text))
        assert count == len(text.encode()) + 1


def test_the_sum_is_that_of_the_plain_forward_pass(llm: LLM) -> None:
    ids = [*llm.tokenizer.encode("some words"), llm.tokenizer.eod_id]
    model = llm.engine.runner.model
    with torch.no_grad():
        scores = model.logits(model(torch.tensor([ids])))[0].log_softmax(-1)
    expected = sum(scores[i, token].item() for i, token in enumerate(ids[1:])) - math.log(259)
    assert ask(llm, Loglikelihood(continuation="some words"))[0][0] == pytest.approx(expected, abs=1e-4)


def test_neighbours_and_groups_change_nothing(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [Loglikelihood(continuation=text) for text in TEXTS]
    examples += [Loglikelihood(context="so", continuation=" it is"), Loglikelihood(context="so", continuation="")]
    alone = [ask(llm, example)[0] for example in examples]
    monkeypatch.setattr(likelihood, "ROWS_AT_ONCE", 7)
    for size in (80, 4096):
        monkeypatch.setattr(likelihood, "TOKENS_AT_ONCE", size)
        together = ask(llm, *examples)
        assert [count for _, count in together] == [count for _, count in alone]
        assert [logprob for logprob, _ in together] == pytest.approx([logprob for logprob, _ in alone], abs=1e-3)


def test_a_continuation_is_what_the_engine_scores(llm: LLM) -> None:
    context, continuation = "so ", "it is"
    before = llm.tokenizer.encode(context)
    params = SamplingParams(max_tokens=0)
    scored = llm.stream(before + llm.tokenizer.encode(continuation), params, score_from=len(before)).result()
    expected = sum(one.logprob for one in scored.prompt_logprobs)
    ((found, count),) = ask(llm, Loglikelihood(context=context, continuation=continuation))
    assert count == len(continuation) and found == pytest.approx(expected, abs=1e-4)


def test_probabilities_of_all_one_token_continuations_sum_to_one(llm: LLM) -> None:
    found = ask(llm, *(Loglikelihood(context="x", continuation=chr(i)) for i in range(128)))
    assert 0.3 < sum(math.exp(logprob) for logprob, _ in found) < 1  # the rest goes to bytes no text begins with


def test_more_than_the_model_reads_is_refused(llm: LLM) -> None:
    with pytest.raises(RequestError, match="70 tokens of context and answer, the model reads 64"):
        ask(llm, Loglikelihood(context="a" * 40, continuation="b" * 30))
