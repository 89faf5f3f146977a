"""`ChatRun`: prompt, grammar, tool calls and finish reason, as `LLM.chat` and the server use it."""

import json
import sys
from dataclasses import replace

import pytest

from qianwen.chat import FunctionSpec, Message, ToolCall, collect, render
from qianwen.chat.functions import ToolCallReader
from qianwen.chat.model import Usage
from qianwen.chat.thoughts import ThoughtReader
from qianwen.engine.chat_run import ChatRun, DeltaReader
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig, Output
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import RequestError
from qianwen.serve.reply import ChatChoice

from .conftest import byte_tokenizer, tiny_model

SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["x"],
    "additionalProperties": False,
}
ADD, NEG = FunctionSpec("add", "", SCHEMA), FunctionSpec("neg", "", SCHEMA)
ASK = [Message("user", "hi")]
CALL = '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'
TAGS = pytest.mark.parametrize("tags", [(), ("<tool_call>", "</tool_call>")], ids=["react", "tool_call"])


def output(text: str, reason: str | None = None) -> Output:
    return Output("r", 0, text, (), Usage(3, 4), finish_reason=reason)


@pytest.mark.parametrize(
    ("text", "engine_reason", "reason"),
    [
        ("hello", "stop", "stop"),
        ("hello", "length", "length"),
        (CALL, "stop", "tool_calls"),
        (CALL, "length", "length"),  # a call cut at max_tokens may be incomplete, so it must not look complete
        (CALL, "content_filter", "content_filter"),
        (CALL, "abort", "abort"),
    ],
)
def test_the_finish_reason_is_that_of_openai(tokenizer, text, engine_reason, reason):
    has_call = text == CALL
    *_, last = DeltaReader(ToolCallReader()).feed(output(text, engine_reason))
    assert (last.finish_reason, last.usage) == (reason, Usage(3, 4))
    for legacy in (False, True):
        choice = ChatChoice(0, tokenizer, DeltaReader(ToolCallReader()), legacy=legacy, one_call=False)
        pieces = choice.feed(output(text, engine_reason))
        assert pieces[-1]["finish_reason"] == ("function_call" if legacy and reason == "tool_calls" else reason)
        assert any(piece["delta"].keys() & {"tool_calls", "function_call"} for piece in pieces) == has_call


def test_all_text_is_content_without_functions(tokenizer):
    run = ChatRun(tokenizer, ASK)
    deltas = list(run.deltas([output(CALL[:9]), output(""), output(CALL[9:], "stop")]))
    assert collect(deltas) == Message("assistant", CALL) and deltas[-1].finish_reason == "stop"
    assert run.prompt_ids == render(ASK, tokenizer, add_generation_prompt=True).ids


@TAGS
def test_no_call_is_possible_without_a_choice(tags):
    tokenizer = byte_tokenizer(*tags)
    run = ChatRun(tokenizer, ASK, [ADD], tool_choice="none")
    assert run.prompt_ids == ChatRun(tokenizer, ASK).prompt_ids
    assert run.prompt_ids != ChatRun(tokenizer, ASK, [ADD]).prompt_ids
    assert collect(run.deltas([output(CALL, "stop")])).tool_calls == ()
    assert run.params(SamplingParams(stop=("x",))).stop == ("x",)


def test_stop_strings_of_the_request_replace_those_of_the_model(tokenizer):
    defaults = SamplingParams(stop=("default",))
    assert ChatRun(tokenizer, ASK).params(defaults).stop == ("default",)
    assert ChatRun(tokenizer, ASK, stop=["a", "b"]).params(defaults).stop == ("a", "b")
    assert ChatRun(tokenizer, ASK, stop="ab").params(defaults).stop == ("ab",)
    with_functions = ChatRun(tokenizer, ASK, [ADD], stop=["a"]).params(defaults).stop
    assert with_functions[0] == "a" and any("Observation" in text for text in with_functions[1:])


@pytest.fixture
def chat_llm():
    """An LLM for prompts with functions; a logit bias ends the thought of a model that would think for long."""

    def make(tags: tuple[str, ...]) -> LLM:
        defaults = SamplingParams(temperature=1.0, max_tokens=900, logit_bias={ord("\n"): 30.0})
        config = EngineConfig(num_blocks=300)
        return LLM(tiny_model(max_position_embeddings=4096), byte_tokenizer(*tags), config, defaults=defaults)

    return make


@TAGS
@pytest.mark.parametrize("choice", ["required", "neg"])
def test_a_forced_function_is_called(chat_llm, tags, choice):
    pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    llm = chat_llm(tags)
    for seed in range(3):
        deltas = list(llm.chat(ASK, [ADD, NEG], tool_choice=choice, seed=seed))
        (call,) = collect(deltas).tool_calls
        assert call.name in (("neg",) if choice == "neg" else ("add", "neg"))
        assert json.loads(call.arguments)["x"] in range(10)
        assert deltas[-1].finish_reason == "tool_calls"


def test_a_response_format_is_followed(llm):
    pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    for seed in range(3):
        text = collect(llm.chat(ASK, response_format=SCHEMA, seed=seed)).text
        assert json.loads(text)["x"] in range(10)
        assert collect(llm.chat(ASK, response_format="json_object", seed=seed, max_tokens=4)).text.startswith("{")
    functions = {"functions": [ADD], "tool_choice": "none"}
    assert json.loads(collect(llm.chat(ASK, **functions, response_format=SCHEMA)).text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tool_choice": "sub"}, "tool_choice names the function 'sub', which is not in tools"),
        ({"tool_choice": "add", "functions": ()}, "tool_choice names the function 'add'"),
        ({"tool_choice": "required", "functions": ()}, "'required' needs at least one function in tools"),
        ({"tool_choice": None}, "tool_choice must be .* got None"),
        ({"tool_choice": {"name": "add"}}, "tool_choice must be"),
        ({"response_format": "xml"}, "response_format must be .* got 'xml'"),
        ({"response_format": {"type": "bogus"}, "tool_choice": "none"}, "bogus"),
        ({"response_format": "json_object"}, "response_format with tools needs tool_choice 'none'"),
        ({"response_format": SCHEMA, "tool_choice": "add"}, "cannot be combined with a forced tool call"),
        ({"n": 2}, "n = 2 is not possible: chat streams one answer"),
        ({"messages": []}, "no user message"),
    ],
)
def test_bad_values_are_refused_before_anything_runs(llm, options, message):
    pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    with pytest.raises(RequestError, match=message):
        llm.chat(**({"messages": ASK, "functions": [ADD]} | options))
    assert not llm.engine.has_work


def test_a_grammar_with_a_response_format_is_refused(llm, tokenizer):
    pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    from qianwen.engine.constrain import regex_grammar

    grammar = regex_grammar(tokenizer, "yes|no")
    assert collect(llm.chat(ASK, grammar=grammar)).text in ("yes", "no")
    with pytest.raises(RequestError, match="a grammar cannot be combined"):
        llm.chat(ASK, grammar=grammar, response_format="json_object")


def test_without_llguidance_constrained_output_is_refused(llm, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)  # importing it raises ImportError
    for options in ({"response_format": SCHEMA}, {"functions": [ADD], "tool_choice": "required"}):
        with pytest.raises(RequestError, match="needs llguidance") as error:
            llm.chat(ASK, **options)
        assert error.value.code == "not_installed"
    assert list(llm.chat(ASK, [], tool_choice="auto", max_tokens=2, ignore_eos=True))


def test_a_call_is_read_across_outputs(tokenizer):
    run = ChatRun(byte_tokenizer("<tool_call>", "</tool_call>"), ASK, [ADD])
    outputs = [output("I add. <tool"), output(CALL[5:20]), output(CALL[20:]), output("", "stop")]
    message = collect(run.deltas(outputs))
    assert message.text == "I add." and message.tool_calls == (ToolCall("add", '{"x": 1}'),)


@pytest.mark.parametrize(
    ("is_open", "texts", "count"),
    [
        (False, ["<think>", "a", "b", "</think>", "\n\n", "c"], 4),
        (True, ["a", "b</think>", "c"], 2),
        (False, ["<", "b", "c"], 0),  # the start of a tag that is none
        (False, ["a", "<think>", "b"], 0),
        (True, ["a", "b"], 2),  # cut off while thinking
    ],
)
def test_tokens_of_thoughts_are_counted(is_open, texts, count):
    reader = DeltaReader(None, ThoughtReader(is_open))
    outputs = [replace(output(text), token_ids=(7,)) for text in texts]
    deltas = [reader.feed(each) for each in [*outputs, output("", "stop")]]
    assert deltas[-1][-1].usage == Usage(3, 4, reasoning_tokens=count)


def prompt_of(style: str | None, messages=ASK, functions=(ADD,)) -> str:
    tokenizer = byte_tokenizer()
    variables = {} if style is None else {"function_style": style}
    return tokenizer.decode(ChatRun(tokenizer, messages, functions, template_variables=variables).prompt_ids)


def test_a_request_chooses_how_functions_are_written():
    assert "following APIs" in prompt_of(None) == prompt_of("react")
    assert "following tools" in prompt_of("react_tools") and "<tools>" in prompt_of("tool_call")
    agent = prompt_of("react_qwen_agent")
    assert agent.endswith("\nQuestion: hi\nThought: <|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("style", "functions", "message"),
    [
        ("json", (ADD,), "chat template"),
        ("markdown", (ADD,), "must be one of react, react_tools"),
        (7, (ADD,), "must be one of"),
        ("react_tools", (), "has none"),
    ],
)
def test_a_style_that_does_not_apply_is_refused(style, functions, message):
    with pytest.raises(RequestError, match=message) as error:
        prompt_of(style, functions=functions)
    assert error.value.param == "function_style"


@pytest.mark.parametrize("style", ["react", "react_tools", "react_qwen_agent"])
def test_the_reply_of_a_chosen_style_is_read_in_it(style, tokenizer):
    run = ChatRun(tokenizer, ASK, (ADD,), template_variables={"function_style": style})
    deltas = run.deltas([output('Thought: I add.\nAction: add\nAction Input: {"x": 1}'), output("", "stop")])
    message = collect(deltas)
    assert message.content == "I add." and message.tool_calls == (ToolCall("add", '{"x": 1}'),)
    assert "\nObservation:" in run.params(SamplingParams()).stop
