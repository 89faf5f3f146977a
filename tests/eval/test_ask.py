"""One example of each kind put to a fake and to the engine."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from qianwen.chat import Delta, FunctionSpec, Message, ToolCall, Usage
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.eval.ask import GREEDY, NEUTRAL, SEED, ask
from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Choice, Complete, Episode, Generate, Loglikelihood, Respond

QUESTION = [Message("user", "hi")]
SHOTS = "France: Paris\nItaly: Rome\n"


class Recorder:
    """A ChatModel that repeats the question, and never ends one that asks for more."""

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    def chat(self, messages: Sequence[Message], functions=(), stop=(), **sampling: Any) -> Iterator[Delta]:
        self.options.append({"stop": stop, **sampling})
        text = messages[-1].content
        yield Delta(text=text[:2])
        yield Delta(text=text[2:])
        yield Delta(finish_reason="length" if "more" in text else "stop", usage=Usage(1, len(text)))


def test_an_answer_is_greedy_and_no_value_is_left_to_the_model() -> None:
    model = Recorder()
    answer = ask(model, Generate(messages=QUESTION, stop=("!",), max_tokens=9))
    assert answer == Answer(text="hi", is_stopped=True, num_tokens=2)
    assert model.options == [{"stop": ("!",), **GREEDY, "max_tokens": 9}]
    assert GREEDY["temperature"] == 0 and GREEDY["repetition_penalty"] == 1
    assert not ask(model, Generate(messages=[Message("user", "more")])).is_stopped


def test_what_an_author_recommends_for_chats_does_not_change_a_measurement(llm: LLM) -> None:
    odd = LLM(llm.engine.runner.model, llm.tokenizer, defaults=SamplingParams(repetition_penalty=9.0, top_k=3))
    for example in (
        Complete(prompt="aaaa", max_tokens=12),
        Generate(messages=QUESTION, max_tokens=12),
        Complete(prompt="aaaa", max_tokens=12, sampling={"temperature": 1.0}),
    ):
        assert ask(odd, example) == ask(llm, example)


@pytest.mark.parametrize("prompt", [SHOTS + "Peru:", SHOTS + "Chad:", "1, 2, 3,"])
def test_a_completion_is_what_the_engine_writes_behind_the_bare_prompt(llm: LLM, prompt: str) -> None:
    answer = ask(llm, Complete(prompt=prompt, stop=("\n",), max_tokens=12))
    expected = llm.generate([prompt], SamplingParams(temperature=0, stop=("\n",), max_tokens=12))[0]
    assert answer.text == expected.text and "\n" not in answer.text
    assert answer.num_tokens == len(expected.outputs[0].token_ids) > 0
    assert answer.is_stopped == (expected.outputs[0].finish_reason == "stop")


@pytest.mark.parametrize("sampling", [{"temperature": 1.0, "seed": 5}, {"temperature": 1.0}, {"top_p": 0.9}])
def test_samples_differ_from_each_other_and_come_back(llm: LLM, sampling: dict[str, Any]) -> None:
    for example in (
        Complete(prompt=SHOTS, num_samples=4, max_tokens=12, sampling=sampling),
        Generate(messages=QUESTION, num_samples=4, max_tokens=12, sampling=sampling),
    ):
        first, again = ask(llm, example), ask(llm, example)
        assert first == again and len({sample.text for sample in first.samples}) > 1


def test_samples_of_a_conversation_have_seeds_of_their_own() -> None:
    model = Recorder()
    answer = ask(model, Generate(messages=QUESTION, num_samples=3, sampling={"temperature": 1.0, "seed": 7}))
    ask(model, Generate(messages=QUESTION, sampling={"temperature": 0.5}))
    assert [options["seed"] for options in model.options] == [7, 8, 9, SEED]
    assert model.options[0]["top_p"] == NEUTRAL["top_p"] and [sample.text for sample in answer.samples] == ["hi"] * 3


def test_likelihoods_are_those_of_the_engine(llm: LLM) -> None:
    assert ask(llm, Loglikelihood(continuation="text")).num_tokens == 5
    assert ask(llm, Loglikelihood(context="a", continuation="b")).num_tokens == 1
    assert len(ask(llm, Choice(context="2 + 2 =", choices=("4", "5"))).choice_logprobs) == 2


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


def test_an_answer_carries_the_calls_of_the_functions_on_offer() -> None:
    answer = ask(Adder(), Generate(messages=[Message("user", "30+12")], functions=[ADD]))
    assert answer.tool_calls == (ToolCall("add", '{"a": 30, "b": 12}'),)
    assert answer.is_stopped and not answer.text


def begin() -> Respond:
    """Give the results of calls back, and score the number in the reply."""
    num_calls = 0

    def respond(reply: Message) -> Sequence[Message] | dict[str, Share]:
        nonlocal num_calls
        if not reply.tool_calls:
            return {"exact_match": Share(float(reply.content == "42")), "calls": Share(num_calls)}
        num_calls += 1
        return [Message("tool", str(sum(json.loads(call.arguments).values()))) for call in reply.tool_calls]

    return respond


def test_an_episode_goes_on_until_it_has_a_score() -> None:
    model, episode = Adder(), Episode(messages=[Message("user", "30+12")], begin=begin, functions=[ADD])
    first, again = ask(model, episode), ask(model, episode)  # each begins with a state of its own
    assert first == again and model.num_replies == 4
    assert first.shares == {"exact_match": Share(1.0), "calls": Share(1)}
    assert [message.role for message in first.conversation] == ["user", "assistant", "tool", "assistant"]
    assert first.is_stopped and first.text == "42" and first.num_tokens == 10


def test_an_episode_without_a_score_ends_after_its_last_turn() -> None:
    model = Adder()
    answer = ask(model, Episode(messages=[Message("user", "1+2")], begin=begin, functions=[ADD], max_turns=1))
    assert model.num_replies == 1 and not answer.is_stopped and not answer.shares
