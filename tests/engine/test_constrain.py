import json

import pytest

from qianwen.chat import FunctionSpec
from qianwen.engine.constrain import call_grammar, json_grammar, regex_grammar
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import RequestError

from .conftest import byte_tokenizer

pytest.importorskip("llguidance", reason="constrained output needs llguidance")
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 99}, "kind": {"enum": ["猫", "dog"]}},
    "required": ["age", "kind"],
    "additionalProperties": False,
}
ADD = FunctionSpec("add", "", SCHEMA)
NEG = FunctionSpec("neg", "", {"type": "object", "properties": {}, "additionalProperties": False})


def test_json_follows_its_schema(llm, tokenizer):
    grammar = json_grammar(tokenizer, SCHEMA)
    for seed in range(5):
        answer = llm.generate(["x"], SamplingParams(grammar=grammar, seed=seed))[0].outputs[0]
        value = json.loads(answer.text)
        assert set(value) == {"age", "kind"} and 0 <= value["age"] <= 99 and value["kind"] in ("猫", "dog")
        assert answer.finish_reason == "stop" and answer.text == json.dumps(value, ensure_ascii=False)


def test_regular_expressions(llm, tokenizer):
    params = SamplingParams(grammar=regex_grammar(tokenizer, r"(yes|no) [0-9]{3}"), temperature=0)
    text = llm.generate(["x"], params)[0].text
    assert text[:-4] in ("yes", "no") and text[-3:].isdigit()


@pytest.mark.parametrize("tags", [(), ("<tool_call>", "</tool_call>")])
@pytest.mark.parametrize("style", ["react", "tool_call"])
def test_constrained_calls_can_be_parsed(model, tags, style):
    from qianwen.chat import collect
    from qianwen.chat.functions import call_reader

    tokenizer = byte_tokenizer(*tags)
    llm = LLM(model, tokenizer)
    grammar = call_grammar(tokenizer, [ADD, NEG], style)
    bias = {ord("\n"): 30.0}  # ends the thought of a model that would think for long
    for seed in range(4):
        params = SamplingParams(grammar=grammar, seed=seed, logit_bias=bias, max_tokens=None)
        answer = llm.generate(["x"], params)[0].outputs[0]
        reader = call_reader(style, [])
        (call,) = collect([*reader.feed(answer.text), *reader.finish()]).tool_calls
        assert call.name in ("add", "neg")
        assert set(json.loads(call.arguments)) == ({"age", "kind"} if call.name == "add" else set())


def test_other_requests_are_not_constrained(llm, tokenizer, greedy):
    params = [
        SamplingParams(grammar=json_grammar(tokenizer), max_tokens=8, seed=1),
        SamplingParams(temperature=0, max_tokens=8, ignore_eos=True),
    ]
    bound, free = llm.generate(["a", "b"], params)
    assert bound.text.startswith("{") and free.outputs[0].token_ids == greedy([98], 8)


def test_an_invalid_grammar_is_refused(tokenizer):
    with pytest.raises(RequestError, match="bogus"):
        json_grammar(tokenizer, {"type": "bogus"})
    with pytest.raises(RequestError, match="grammar"):
        regex_grammar(tokenizer, "(")
