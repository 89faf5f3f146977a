"""Tasks put to a fake and to the engine."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from qianwen.chat import Delta, Message, Usage
from qianwen.engine.llm import LLM
from qianwen.eval.runner import run_task
from qianwen.eval.task import Answer, Example, Generate, Loglikelihood, Share
from qianwen.runtime.errors import ConfigError


class Echo:
    """A ChatModel that repeats the question, and never ends one that asks for more."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def chat(self, messages: Sequence[Message], functions=(), stop=(), **sampling: Any) -> Iterator[Delta]:
        self.asked.append({"stop": stop, **sampling})
        text = messages[-1].content
        yield Delta(text=text[:2])
        yield Delta(text=text[2:])
        yield Delta(finish_reason="length" if "more" in text else "stop", usage=Usage(1, len(text)))


class Repeat:
    """Is the answer the question? And how likely are some texts?"""

    name = "repeat"

    def __init__(self, questions: Sequence[str], texts: Sequence[str] = ()) -> None:
        self.questions, self.texts = questions, texts

    def examples(self) -> Iterator[Example]:
        for question in self.questions:
            yield Generate(messages=[Message("user", question)], stop=("!",), max_tokens=9, facts={"target": question})
        for text in self.texts:
            yield Loglikelihood(continuation=text)

    def score(self, example: Example, answer: Answer) -> dict[str, Share]:
        if isinstance(example, Loglikelihood):
            return {"nats": Share(-answer.logprob, answer.num_tokens)}
        return {"same": Share(float(answer.text == example.facts["target"])), "stops": Share(float(answer.is_stopped))}


def test_every_example_is_asked_and_scored_in_order() -> None:
    model = Echo()
    questions = [f"question {i}" + " more" * (i % 4 == 0) for i in range(150)]
    result = run_task(Repeat(questions), model)
    assert [answer.text for _, answer in result.answered] == questions
    assert result.metrics["same"].value == 1 and result.metrics["stops"].value == pytest.approx(112 / 150)
    assert model.asked[0] == {"stop": ("!",), "temperature": 0.0, "max_tokens": 9}
    assert result.answered[3][1].num_tokens == len(questions[3])


def test_a_limit_and_an_empty_task() -> None:
    assert run_task(Repeat(["a", "b", "c"]), Echo(), limit=2).metrics["same"].num_examples == 2
    with pytest.raises(ConfigError, match="repeat has no examples"):
        run_task(Repeat([]), Echo())


def test_likelihoods_need_a_model_that_runs_here(llm: LLM) -> None:
    with pytest.raises(ConfigError, match="not one behind a URL"):
        run_task(Repeat([], ["text"]), Echo())
    result = run_task(Repeat(["a", "b"], ["text", "more text"]), llm)
    assert result.metrics["nats"].num_examples == 2 and result.metrics["nats"].value > 0
    assert [answer.num_tokens for _, answer in result.answered[2:]] == [5, 10]


def test_the_engine_gives_the_same_answers_one_by_one(llm: LLM) -> None:
    questions = [f"q{i}" for i in range(5)]
    together = run_task(Repeat(questions), llm).answered
    alone = [run_task(Repeat([question]), llm).answered[0] for question in questions]
    assert [answer for _, answer in together] == [answer for _, answer in alone]
