"""Every token of a text is charged, once, whatever it is computed beside."""

import math

import pytest
import torch

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval.likelihood import choose, likelihoods
from qianwen.eval.task import Choice, Loglikelihood
from qianwen.runtime.errors import ConfigError, RequestError

# Of the network in conftest.py, by a plain forward pass of an earlier version: text, nats, tokens charged.
KNOWN = [
    ("", -5.556828, 1),
    ("a", -9.018732, 2),
    ("some words", -84.189121, 11),
    ("longer than the window: " + "abc " * 40, -1566.748504, 185),
    ("数字", -51.648411, 7),
]
TEXTS = [text for text, *_ in KNOWN]


def ask(llm: LLM, *examples: Loglikelihood) -> list[tuple[float, int]]:
    return [(answer.logprob, answer.num_tokens) for answer in likelihoods(llm, examples)]


def logprobs(llm: LLM, ids: list[int]) -> list[float]:
    """Of every token but the first, by a plain forward pass over all of them."""
    model = llm.engine.runner.model
    with torch.no_grad():
        scores = model.logits(model(torch.tensor([ids])))[0].log_softmax(-1)
    return [scores[i, token].item() for i, token in enumerate(ids[1:])]


@pytest.mark.parametrize(("text", "nats", "count"), KNOWN)
def test_a_document_costs_what_it_always_did(llm: LLM, text: str, nats: float, count: int) -> None:
    assert ask(llm, Loglikelihood(continuation=text)) == [(pytest.approx(nats, abs=2e-3), count)]
    assert count == len(text.encode()) + 1


@pytest.mark.parametrize("text", TEXTS)
def test_the_sum_is_that_of_plain_forward_passes_over_windows(llm: LLM, text: str) -> None:
    ids = [*llm.tokenizer.encode(text), llm.tokenizer.eod_id]
    windows = [ids[start : start + 64] for start in range(0, len(ids) - 1, 63)]
    expected = sum(sum(logprobs(llm, window)) for window in windows) - math.log(259)
    assert ask(llm, Loglikelihood(continuation=text))[0][0] == pytest.approx(expected, abs=1e-3)


def test_of_a_continuation_the_context_is_free(llm: LLM) -> None:
    context, continuation = llm.tokenizer.encode("so "), llm.tokenizer.encode("it is")
    expected = sum(logprobs(llm, context + continuation)[len(context) - 1 :])
    ((nats, count),) = ask(llm, Loglikelihood(context="so ", continuation="it is"))
    assert count == 5 and nats == pytest.approx(expected, abs=1e-4) == pytest.approx(-26.814862, abs=1e-3)


def test_neighbours_and_chunks_change_nothing(llm: LLM) -> None:
    examples = [Loglikelihood(continuation=text) for text in TEXTS]
    examples += [Loglikelihood(context="so", continuation=" it is"), Loglikelihood(context="so", continuation="")]
    alone = [ask(llm, example)[0] for example in examples]
    for size in (16, 4096):
        engine = EngineConfig(block_size=8, max_num_batched_tokens=size)
        together = ask(LLM(llm.engine.runner.model, llm.tokenizer, engine), *examples)
        assert [count for _, count in together] == [count for _, count in alone]
        assert [nats for nats, _ in together] == pytest.approx([nats for nats, _ in alone], abs=1e-3)


def test_probabilities_of_all_one_token_continuations_sum_to_one(llm: LLM) -> None:
    scored = ask(llm, *(Loglikelihood(context="x", continuation=chr(i)) for i in range(128)))
    assert 0.3 < sum(math.exp(nats) for nats, _ in scored) < 1  # the rest goes to bytes no text begins with


def test_more_than_the_model_reads_is_refused(llm: LLM) -> None:
    with pytest.raises(RequestError, match="has 70 tokens, but the context is 64"):
        ask(llm, Loglikelihood(context="a" * 40, continuation="b" * 30))


def test_choices_are_scored_in_one_request_as_the_network_scores_them(llm: LLM) -> None:
    answer = choose(llm, Choice(context="2 + 2 =", choices=("4", "5", "x")))
    expected = [logprobs(llm, llm.tokenizer.encode("2 + 2 =" + text))[-1] for text in ("4", "5", "x")]
    assert answer.choice_logprobs == pytest.approx(expected, abs=2e-3)
    assert answer.num_tokens == 1


@pytest.mark.parametrize(("length", "used"), [(12, 12), (20, 20), (21, 19), (90, 19)])
def test_a_long_context_of_a_choice_loses_its_beginning(llm: LLM, length: int, used: int) -> None:
    text = "".join(chr(97 + i % 26) for i in range(length))
    cut = choose(llm, Choice(context=text, choices=("4", "5"), max_tokens=20))
    assert cut.choice_logprobs == choose(llm, Choice(context=text[-used:], choices=("4", "5"))).choice_logprobs


@pytest.mark.parametrize("text", ["数", "10", ""])
def test_a_choice_of_several_tokens_is_refused(llm: LLM, text: str) -> None:
    with pytest.raises(ConfigError, match="must be one token"):
        choose(llm, Choice(context="=", choices=("4", text)))
