"""Thoughts: switched by the request, answered apart from the content, in every place that a reply is read."""

import json

import pytest

from qianwen.chat import FunctionSpec, Message, collect
from qianwen.chat.model import Usage
from qianwen.chat.sse import ReplyAssembler
from qianwen.engine.chat_run import ChatRun
from qianwen.engine.llm_engine import Output
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import RequestError
from qianwen.serve.protocol import ChatCompletionRequest, parse
from qianwen.serve.reply import ChatChoice, fold_chat
from qianwen.serve.wire import FunctionDefinition

from .test_chat_templates import ALWAYS, HEADERS, HI, THINKING, TOOLS, tokenizer

REPLY = "<think>\nhm\n</think>\n\nyes"


def output(text: str, reason: str | None = None) -> Output:
    return Output("r", 0, text, (), Usage(3, 4), finish_reason=reason)


@pytest.mark.parametrize(
    ("template", "thinking", "reply", "want"),
    [
        (THINKING, None, REPLY, ("hm", "yes")),
        (THINKING, True, "yes", ("", "yes")),
        (THINKING, False, "yes", ("", "yes")),
        (ALWAYS, None, "hm\n</think>\n\nyes", ("hm", "yes")),  # the prompt has the opening tag
        (ALWAYS, True, "hm", ("hm", "")),
        (HEADERS, None, REPLY, ("", REPLY)),  # a model that does not think
        (None, None, REPLY, ("", REPLY)),
    ],
)
def test_thoughts_and_answer_are_apart(template: str | None, thinking: bool | None, reply: str, want: tuple) -> None:
    for cut in range(len(reply)):
        run = ChatRun(tokenizer(template), HI, thinking=thinking)
        message = collect(run.deltas([output(reply[:cut]), output(reply[cut:], "stop")]))
        assert (message.reasoning_content, message.text) == want


def test_a_call_after_thoughts() -> None:
    ours = tokenizer(TOOLS + "{# <think> #}")
    run = ChatRun(ours, HI, [FunctionSpec("f")])
    for call in ('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', '{"name": "f", "arguments": {}}'):
        deltas = list(run.deltas([output(f"<think>\n{call[:20]}\n</think>\n\n"), output(call, "stop")]))
        message = collect(deltas)
        assert message.reasoning_content == call[:20] and not message.text and message.tool_calls[0].name == "f"
        assert deltas[-1].finish_reason == "tool_calls"


def test_pieces_of_a_stream_fold_into_a_message_with_reasoning_content() -> None:
    ours = tokenizer(THINKING)
    choice = ChatChoice(0, ours, ChatRun(ours, HI).reader(), legacy=False, one_call=False)
    pieces = [piece for char in REPLY for piece in choice.feed(output(char))] + choice.feed(output("", "stop"))
    assert {"reasoning_content"} in [set(piece["delta"]) for piece in pieces]
    [folded] = fold_chat(pieces)
    assert folded["message"]["reasoning_content"] == "hm" and folded["message"]["content"] == "yes"
    assembler = ReplyAssembler()
    read = [delta for piece in pieces for delta in assembler.feed({"choices": [piece]})]
    assert collect(read) == Message("assistant", "yes", reasoning_content="hm")


def test_an_answer_without_thoughts_has_no_such_field() -> None:
    ours = tokenizer(HEADERS)
    choice = ChatChoice(0, ours, ChatRun(ours, HI).reader(), legacy=False, one_call=False)
    assert "reasoning_content" not in fold_chat(choice.feed(output("yes", "stop")))[0]["message"]


def request(**fields: object) -> ChatCompletionRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse(json.dumps(body).encode(), ChatCompletionRequest)


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [
        ("none", False),
        ("minimal", False),
        ("low", True),
        ("medium", True),
        ("high", True),
        ("xhigh", True),
        (None, None),
    ],
)
def test_reasoning_effort_of_the_api(effort: str | None, thinking: bool | None) -> None:
    assert request(reasoning_effort=effort).thinking is thinking


@pytest.mark.parametrize("effort", ["off", "", 1, True, ["low"]])
def test_another_effort_is_refused_by_name(effort: object) -> None:
    with pytest.raises(RequestError, match="reasoning_effort"):
        request(reasoning_effort=effort)


@pytest.mark.parametrize("variables", [{"enable_thinking": False}, {}, None])
def test_chat_template_kwargs_of_the_api(variables: dict | None) -> None:
    assert request(chat_template_kwargs=variables).chat_template_kwargs == variables


@pytest.mark.parametrize("variables", [[], "x", 1, {str(number): 0 for number in range(33)}])
def test_other_kwargs_are_refused_by_name(variables: object) -> None:
    with pytest.raises(RequestError, match="chat_template_kwargs"):
        request(chat_template_kwargs=variables)


def test_a_message_may_bring_its_thoughts() -> None:
    messages = [{"role": "assistant", "content": "yes", "reasoning_content": "hm"}, {"role": "user", "content": "q"}]
    assert request(messages=messages).messages[0].reasoning_content == "hm"


@pytest.mark.parametrize(
    "sent", ['{"parameters": {}, "name": "f"}', '{"name": "f", "strict": null}', '{"name": "f", "description": ""}']
)
def test_a_function_of_a_request_is_what_was_sent(sent: str) -> None:
    definition = FunctionDefinition.model_validate_json(sent)
    assert json.dumps(definition.sent) == json.dumps(json.loads(sent))


def test_an_answer_ends_with_the_turn_of_its_template() -> None:
    ours = tokenizer(HEADERS)
    params = ChatRun(ours, HI).params(SamplingParams())
    assert ours.special_id("<|eot_id|>") in params.stop_token_ids
    assert not ChatRun(ours, HI).params(SamplingParams(ignore_eos=True)).stop_token_ids
