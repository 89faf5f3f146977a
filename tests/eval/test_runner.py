"""Tasks put to a fake and to the engine."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from qianwen.chat import Delta, FunctionSpec, Message, ToolCall, Usage
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.eval.metrics import Share
from qianwen.eval.runner import run_task
from qianwen.eval.task import Answer, Complete, Episode, Example, Generate, Loglikelihood, Respond, Score, Task
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
    assert model.asked[0] == {"stop": ("!",), "temperature": 0.0, "max_tokens": 9}
    assert result.scored[3][1].num_tokens == len(questions[3])


def test_a_limit_and_an_empty_task() -> None:
    assert run_task(Repeat(["a", "b", "c"]), Echo(), limit=2).metrics["same"].num_examples == 2
    with pytest.raises(ConfigError, match="repeat has no examples"):
        run_task(Repeat([]), Echo())


def test_likelihoods_need_a_model_that_runs_here(llm: LLM) -> None:
    model = Echo()
    with pytest.raises(ConfigError, match="repeat needs likelihoods: .* not one behind a URL"):
        run_task(Repeat(["asked before it?"], ["text"]), model)
    assert not model.asked, "it is refused before the first question"
    result = run_task(Repeat(["a", "b"], ["text", "more text"]), llm)
    assert result.metrics["nats"].num_examples == 2 and result.metrics["nats"].value > 0
    assert [answer.num_tokens for _, answer, _ in result.scored[2:]] == [5, 10]


def test_the_engine_gives_the_same_answers_one_by_one(llm: LLM) -> None:
    questions = [f"q{i}" for i in range(5)]
    together = run_task(Repeat(questions), llm).scored
    alone = [run_task(Repeat([question]), llm).scored[0] for question in questions]
    assert [answer for _, answer, _ in together] == [answer for _, answer, _ in alone]


class Capitals(Task):
    """A few-shot prompt to be continued up to the end of the line; some samples of each."""

    name = "capitals"
    shots = "France: Paris\nItaly: Rome\n"

    def __init__(self, num_samples: int = 1, **sampling: Any) -> None:
        self.settings = {"num_samples": num_samples, "sampling": sampling}

    def examples(self) -> Iterator[Complete]:
        for country, capital in {"Peru": "Lima", "Chad": "N'Djamena", "Mali": "Bamako"}.items():
            prompt = f"{self.shots}{country}:"
            yield Complete(prompt=prompt, stop=("\n",), max_tokens=12, facts={"target": capital}, **self.settings)

    def score(self, example: Complete, answer: Answer) -> Score:
        hits = [example.facts["target"] in sample.text for sample in answer.samples]
        return Score(shares={"pass_at_1": Share(sum(hits), len(hits)), "stops": Share(float(answer.is_stopped))})


def test_a_completion_is_what_the_engine_writes_behind_the_bare_prompt(llm: LLM) -> None:
    result = run_task(Capitals(), llm)
    for example, answer, _ in result.scored:
        params = SamplingParams(temperature=0, stop=("\n",), max_tokens=12)
        expected = llm.generate([example.prompt], params)[0]
        assert answer.text == expected.text and "\n" not in answer.text
        assert answer.num_tokens == len(expected.outputs[0].token_ids) > 0
        assert answer.is_stopped == (expected.outputs[0].finish_reason == "stop")
    assert result.metrics["pass_at_1"].num_examples == 3


def test_samples_differ_from_each_other_and_come_back_with_their_seed(llm: LLM) -> None:
    drawn = [[s.text for s in a.samples] for _, a, _ in run_task(Capitals(4, temperature=1.0, seed=5), llm).scored]
    again = [[s.text for s in a.samples] for _, a, _ in run_task(Capitals(4, temperature=1.0, seed=5), llm).scored]
    assert drawn == again and all(len(set(texts)) == 4 for texts in drawn)


def test_completions_need_a_model_that_runs_here() -> None:
    model = Echo()
    with pytest.raises(ConfigError, match="capitals needs completions without a chat template"):
        run_task(Capitals(), model)
    assert not model.asked


class Sampled(Task):
    """The same question, answered four times."""

    name = "sampled"

    def examples(self) -> Iterator[Generate]:
        sampling = {"temperature": 1.0, "seed": 7}
        yield Generate(messages=[Message("user", "hi")], num_samples=4, sampling=sampling, max_tokens=8)

    def score(self, example: Generate, answer: Answer) -> Score:
        return Score(shares={"distinct": Share(len({sample.text for sample in answer.samples}), 4)})


def test_samples_of_a_conversation_have_seeds_of_their_own(llm: LLM) -> None:
    assert run_task(Sampled(), llm).metrics["distinct"].value == 1
    model = Echo()
    result = run_task(Sampled(), model)
    assert [asked["seed"] for asked in model.asked] == [7, 8, 9, 10]
    assert [sample.text for sample in result.scored[0][1].samples] == ["hi"] * 4


ADD = FunctionSpec("add", "adds two numbers", {"type": "object", "properties": {"a": {}, "b": {}}})


class Adder:
    """A ChatModel that calls `add` where it is offered, and answers with the result of the call."""

    def __init__(self) -> None:
        self.num_replies = 0

    def chat(self, messages: Sequence[Message], functions=(), stop=(), **sampling: Any) -> Iterator[Delta]:
        self.num_replies += 1
        if messages[-1].role == "tool" or not functions:
            yield Delta(text=messages[-1].content, finish_reason="stop", usage=Usage(1, 1))
            return
        a, b = messages[-1].content.split("+")
        arguments = json.dumps({"a": int(a), "b": int(b)})
        yield Delta(tool_calls=(ToolCall(functions[0].name, arguments),))
        yield Delta(finish_reason="tool_calls", usage=Usage(1, 9))


class Calls(Task):
    """Is the right function called, with the right arguments?"""

    name = "calls"

    def examples(self) -> Iterator[Generate]:
        for a, b in ((1, 2), (30, 12)):
            facts = {"target": ToolCall("add", json.dumps({"a": a, "b": b}))}
            yield Generate(messages=[Message("user", f"{a}+{b}")], functions=[ADD], facts=facts)

    def score(self, example: Generate, answer: Answer) -> Score:
        return Score(shares={"right_call": Share(float(answer.tool_calls == (example.facts["target"],)))})


def test_an_answer_carries_the_calls_of_the_functions_on_offer() -> None:
    result = run_task(Calls(), Adder())
    assert result.metrics["right_call"].value == 1
    assert all(answer.is_stopped and not answer.text for _, answer, _ in result.scored)


class Sums(Task):
    """Episodes: the function's result is given back, and the number in the reply is compared."""

    name = "sums"

    def __init__(self, sums: Sequence[tuple[int, int]] = ((1, 2), (30, 12), (5, 5)), **settings: Any) -> None:
        self.sums, self.settings = sums, settings

    def examples(self) -> Iterator[Episode]:
        for a, b in self.sums:
            question = [Message("user", f"{a}+{b}")]
            begin = lambda target=str(a + b): _sum(target)  # noqa: E731
            yield Episode(messages=question, begin=begin, functions=[ADD], **self.settings)

    def score(self, example: Episode, answer: Answer) -> Score:
        return Score(shares=answer.shares or {"exact_match": Share(0)})


def _sum(target: str) -> Respond:
    num_calls = 0

    def respond(reply: Message) -> Sequence[Message] | dict[str, Share]:
        nonlocal num_calls
        if not reply.tool_calls:
            return {"exact_match": Share(float(reply.content == target)), "calls": Share(num_calls)}
        num_calls += 1
        return [Message("tool", str(sum(json.loads(call.arguments).values()))) for call in reply.tool_calls]

    return respond


def test_an_episode_goes_on_until_it_has_a_score() -> None:
    for _ in range(2):  # each run begins with a state of its own
        model = Adder()
        result = run_task(Sums(), model)
        assert result.metrics["exact_match"].value == 1 and result.metrics["calls"].value == 1
        assert model.num_replies == 6
    answer = result.scored[1][1]
    assert [message.role for message in answer.conversation] == ["user", "assistant", "tool", "assistant"]
    assert answer.is_stopped and answer.text == "42" and answer.num_tokens == 10


def test_an_episode_without_a_score_ends_after_its_last_turn() -> None:
    model = Adder()
    result = run_task(Sums(max_turns=1), model)
    assert model.num_replies == 3 and result.metrics["exact_match"].value == 0
    assert not any(answer.is_stopped for _, answer, _ in result.scored)


class Mixed(Task):
    """One example of every kind."""

    name = "mixed"

    def examples(self) -> Iterator[Example]:
        yield Loglikelihood(continuation="text")
        again = [Message("user", "again")]
        yield Episode(messages=[Message("user", "q")], begin=lambda: lambda reply: again, max_turns=2, max_tokens=9)
        yield from Repeat(["q"]).examples()
        yield next(Capitals().examples())
        yield Loglikelihood(context="a", continuation="b")

    def score(self, example: Example, answer: Answer) -> Score:
        return Score(shares={type(example).__name__: Share(answer.num_tokens)})


def test_the_engine_answers_every_kind_in_the_order_of_the_examples(llm: LLM) -> None:
    roomy = LLM(llm.engine.runner.model, llm.tokenizer, EngineConfig(max_model_len=512))
    metrics = run_task(Mixed(), roomy).metrics
    assert list(metrics) == ["Loglikelihood", "Episode", "Generate", "Complete"]
    assert metrics["Loglikelihood"].value == 3 and all(estimate.value > 0 for estimate in metrics.values())
