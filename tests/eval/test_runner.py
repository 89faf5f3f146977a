"""Tasks put to a fake and to the engine."""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from qianwen.chat import Delta, Message, Usage
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval import runner
from qianwen.eval.metrics import Share
from qianwen.eval.runner import outcomes, run_task
from qianwen.eval.task import Answer, Choice, Complete, Episode, Example, Generate, Loglikelihood, Score, Task
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary


class Echo:
    """A ChatModel that repeats the question, and fails where the question names an error."""

    def __init__(self) -> None:
        self.questions: list[str] = []

    def chat(self, messages: Sequence[Message], functions=(), stop=(), **sampling: Any) -> Iterator[Delta]:
        text = messages[-1].content
        self.questions.append(text)
        if match := re.search(r"error (\d+)", text):
            time.sleep(0.001)
            raise RequestError("the server says no", status=int(match[1]))
        if "crash" in text:
            raise ZeroDivisionError
        yield Delta(text=text)
        yield Delta(finish_reason="length" if "more" in text else "stop", usage=Usage(1, len(text)))


class Repeat(Task):
    """Is the answer the question? And how likely are some texts?"""

    name = "repeat"

    def __init__(self, questions: Sequence[str], texts: Sequence[str] = ()) -> None:
        self.questions, self.texts = questions, texts

    def examples(self) -> Iterator[Example]:
        for question in self.questions:
            yield Generate(messages=[Message("user", question)], stop=("!",), max_tokens=9, facts={"target": question})
        for text in self.texts:
            yield Loglikelihood(continuation=text)

    def score(self, example: Example, answer: Answer) -> Score:
        if isinstance(example, Loglikelihood):
            return Score(shares={"nats": Share(-answer.logprob, answer.num_tokens)})
        return Score(
            shares={
                "same": Share(float(answer.text == example.facts["target"])),
                "stops": Share(float(answer.is_stopped)),
            }
        )


def test_every_example_is_asked_and_scored_in_order() -> None:
    model = Echo()
    questions = [f"question {i}" + " more" * (i % 4 == 0) for i in range(150)]
    result = run_task(Repeat(questions), model)
    assert [answer.text for _, answer, _ in result.scored] == questions
    assert result.metrics["same"].value == 1 and result.metrics["stops"].value == pytest.approx(112 / 150)
    assert result.scored[3][1].num_tokens == len(questions[3]) and sorted(model.questions) == sorted(questions)


def test_a_task_may_choose_the_order_in_which_its_examples_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards(Repeat):
        def order(self, example: Generate) -> tuple[float | str, ...]:
            return (-len(example.messages[0].text),)

    monkeypatch.setattr(runner, "REMOTE_WORKERS", 1)
    model = Echo()
    result = run_task(Backwards(["b", "ccc", "a", "dd"]), model)
    assert model.questions == ["ccc", "dd", "a", "b"], "equal ones by their prompts"
    assert [answer.text for _, answer, _ in result.scored] == ["b", "ccc", "a", "dd"]


def test_a_limit_and_an_empty_task() -> None:
    assert run_task(Repeat(["a", "b", "c"]), Echo(), limit=2).metrics["same"].num_examples == 2
    with pytest.raises(ConfigError, match="repeat has no examples"):
        run_task(Repeat([]), Echo())


def test_likelihoods_need_a_model_that_runs_here(llm: LLM) -> None:
    model = Echo()
    with pytest.raises(ConfigError, match="repeat needs likelihoods: .* not one behind a URL"):
        run_task(Repeat(["asked before it?"], ["text"]), model)
    assert not model.questions, "it is refused before the first question"
    result = run_task(Repeat(["a", "b"], ["text", "more text"]), llm)
    assert result.metrics["nats"].num_examples == 2 and result.metrics["nats"].value > 0
    assert [answer.num_tokens for _, answer, _ in result.scored[2:]] == [5, 10]


def test_the_engine_gives_the_same_answers_one_by_one(llm: LLM) -> None:
    questions = [f"q{i}" for i in range(5)]
    together = run_task(Repeat(questions), llm).scored
    alone = [run_task(Repeat([question]), llm).scored[0] for question in questions]
    assert [answer for _, answer, _ in together] == [answer for _, answer, _ in alone]


class Mixed(Task):
    """One example of every kind."""

    name = "mixed"

    def examples(self) -> Iterator[Example]:
        yield Loglikelihood(continuation="text")
        again = [Message("user", "again")]
        yield Episode(messages=[Message("user", "q")], begin=lambda: lambda reply: again, max_turns=2, max_tokens=9)
        yield from Repeat(["q"]).examples()
        yield Complete(prompt="1, 2,", max_tokens=5)
        yield Choice(context="a", choices=("b", "c"))
        yield Loglikelihood(context="a", continuation="b")

    def score(self, example: Example, answer: Answer) -> Score:
        return Score(shares={type(example).__name__: Share(answer.num_tokens)})


def test_the_engine_answers_every_kind_in_the_order_of_the_examples(llm: LLM) -> None:
    roomy = LLM(llm.engine.runner.model, llm.tokenizer, EngineConfig(max_model_len=512))
    metrics = run_task(Mixed(), roomy).metrics
    assert list(metrics) == ["Loglikelihood", "Episode", "Generate", "Complete", "Choice"]
    assert metrics["Loglikelihood"].value == 3 and all(estimate.value > 0 for estimate in metrics.values())


def test_completions_need_a_model_that_runs_here() -> None:
    model = Echo()
    with pytest.raises(ConfigError, match="mixed needs likelihoods|mixed needs completions"):
        run_task(Mixed(), model)
    assert not model.questions


def test_a_chat_needs_a_model_with_turns() -> None:
    tokenizer = Tokenizer(Vocabulary({bytes([v]): v for v in range(256)}, {"<|endoftext|>": 256}, QWEN_PATTERN))
    shape = QwenConfig(vocab_size=257, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
    base = LLM(Qwen(shape).init_weights(0).eval(), tokenizer)
    with pytest.raises(ConfigError, match="repeat needs a chat model"):
        run_task(Repeat(["a"]), base)


@pytest.mark.parametrize("status", [400, 408, 413, 429, 500, 503])
def test_an_error_of_one_example_does_not_end_the_run(status: int) -> None:
    result = run_task(Repeat(["a", f"error {status}", "b"]), Echo())
    assert [answer.text for _, answer, _ in result.scored] == ["a", "b"]
    assert result.errors == {1: "the server says no"} and result.metrics["same"].num_examples == 2


def test_a_prompt_that_is_too_long_is_an_error_of_its_example(llm: LLM) -> None:
    result = run_task(Repeat(["a", "b" * 100, "c"]), llm)
    assert list(result.errors) == [1] and "the context is 64" in result.errors[1] and len(result.scored) == 2


def test_a_run_in_which_every_example_fails_has_no_metrics() -> None:
    result = run_task(Repeat(["error 400"] * 3), Echo())
    assert not result.metrics and list(result.errors) == [0, 1, 2]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_ends_the_run_at_once(status: int) -> None:
    model = Echo()
    with pytest.raises(RequestError, match="the server says no"):
        run_task(Repeat([f"error {status}"] * 500), model)
    assert len(model.questions) < 500


def test_a_server_that_is_gone_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Echo()
    with pytest.raises(RequestError):
        run_task(Repeat(["error 502"] * 5000), model)
    assert len(model.questions) < 5000
    spaced = [f"error 502 {number}" if number % 20 else f"{number}" for number in range(2000)]
    monkeypatch.setattr(runner, "_place", lambda indexed: indexed[0])
    assert run_task(Repeat(spaced), Echo()).metrics["same"].num_examples == 100, "one answer shows that it is there"


def test_a_choice_of_several_tokens_ends_the_run(llm: LLM) -> None:
    class Letters(Mixed):
        def examples(self) -> Iterator[Example]:
            yield from (Choice(context=f"{number}", choices=("A", "BC")) for number in range(9))

    with pytest.raises(ConfigError, match="must be one token"):
        run_task(Letters(), llm)
    assert not llm.shared.num_open


def test_an_error_of_the_program_itself_is_not_an_error_of_an_example() -> None:
    with pytest.raises(ZeroDivisionError):
        run_task(Repeat(["a", "crash", "b"]), Echo())


def test_the_next_example_starts_when_one_ends() -> None:
    """Not in waves: one question that takes long does not hold up those behind it."""

    class Slow(Echo):
        def chat(self, messages: Sequence[Message], *args: Any, **options: Any) -> Iterator[Delta]:
            if messages[-1].content == " slow":
                others_ended.wait(30)
            yield from super().chat(messages, *args, **options)
            if len(self.questions) == 300:
                others_ended.set()

    others_ended = threading.Event()
    model = Slow()
    result = run_task(Repeat([" slow", *map(str, range(300))]), model)
    assert model.questions[-1] == " slow" and others_ended.is_set() and len(result.scored) == 301


def test_leaving_early_cancels_what_is_under_way(llm: LLM) -> None:
    roomy = LLM(llm.engine.runner.model, llm.tokenizer, EngineConfig(max_model_len=4096, num_blocks=999))
    task = Repeat([])
    endless = {"temperature": 0.0, "ignore_eos": True}
    examples = [(n, Complete(prompt=f"{n}", max_tokens=3000 if n else 1, sampling=endless)) for n in range(40)]
    num_threads = threading.active_count()
    ended = outcomes(task, roomy, examples)
    task.score = lambda example, answer: Score(shares={})  # type: ignore[method-assign]
    assert next(ended).index == 0
    began = time.monotonic()
    ended.close()
    assert time.monotonic() - began < 5 and threading.active_count() == num_threads and not roomy.shared.num_open


class Shots(Task):
    """Two subjects in turn; the questions of each begin with the same ten blocks."""

    name = "shots"

    def examples(self) -> Iterator[Choice]:
        for number in range(40):
            yield Choice(context="xy"[number % 2] * 320 + f"{number:02}", choices=("A", "B"))

    def score(self, example: Choice, answer: Answer) -> Score:
        return Score(shares={"first": Share(answer.choice_logprobs[0])})


def test_a_shared_beginning_is_computed_once(llm: LLM) -> None:
    """Also by the first questions of a subject, which begin together; and it is not known from the results."""
    model, values = llm.engine.runner.model, {}
    for caching in (True, False):
        config = EngineConfig(max_model_len=512, max_num_batched_tokens=64, prefix_caching=caching)
        shared = LLM(model, llm.tokenizer, config)
        num_computed, append = [0], shared.engine.scheduler._append

        def counted(chunks, seq, num_tokens, append=append, num_computed=num_computed):
            num_computed[0] += num_tokens
            return append(chunks, seq, num_tokens)

        shared.engine.scheduler._append = counted  # type: ignore[method-assign]
        values[caching] = [score.shares["first"].amount for *_, score in run_task(Shots(), shared).scored]
        assert num_computed[0] == (2 * 320 + 40 * 2 if caching else 40 * 322)
    assert values[True] == pytest.approx(values[False], abs=1e-3)
