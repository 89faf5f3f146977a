import json

import pytest

from qianwen.align.records import read_record
from qianwen.align.service.tool_calls import KINDS, CallDialogues
from qianwen.chat.json_schema import satisfies
from qianwen.chat.render import render
from tests.engine.conftest import byte_tokenizer


def calls_of(row):
    return [call for message in row["messages"] for call in message.get("tool_calls", ())]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_calls_fit_their_tools_and_answers_state_the_results(kind, language):
    dialogues = CallDialogues(language, seed=4)
    for _ in range(30):
        row = dialogues.row(kind)
        tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        assert len(tools) == len(row["tools"]) >= 1
        calls = calls_of(row)
        assert len(calls) == {"no call": 0, "parallel": 2, "chain": 2}.get(kind, 1)
        for call in calls:
            assert satisfies(json.loads(call["function"]["arguments"]), tools[call["function"]["name"]])
        answer = row["messages"][-1]["content"]
        for message in row["messages"]:
            if message["role"] == "tool":
                assert any(str(value) in answer for value in json.loads(message["content"]).values())


def test_kinds_differ_in_thoughts_and_in_what_is_asked():
    rows = {kind: CallDialogues("en", seed=1).row(kind) for kind in KINDS}
    roles = {kind: " ".join(message["role"][0] for message in row["messages"]) for kind, row in rows.items()}
    assert roles == {"call": "u a t a", "react": "u a t a", "parallel": "u a t t a", "chain": "u a t a t a",
                     "missing": "u a u a t a", "error": "u a t a", "no call": "u a"}  # fmt: skip
    assert not rows["call"]["messages"][1]["content"] and rows["react"]["messages"][1]["content"]
    assert "error" in rows["error"]["messages"][2]["content"]


def test_a_seed_fixes_the_file_and_rows_are_read_by_sft():
    first, again, other = (json.dumps([CallDialogues("zh", seed).row(kind) for kind in KINDS]) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("tags", [(), ("<tool_call>", "</tool_call>")], ids=["react", "tool_call"])
def test_rows_are_rendered_in_both_formats(tags):
    for kind in KINDS:
        dialogue = read_record(CallDialogues("en", seed=2).row(kind))
        tokenizer = byte_tokenizer(*tags)
        rendered = render(dialogue.messages, tokenizer, functions=dialogue.functions)
        learned = tokenizer.decode([i for i, learn in zip(rendered.ids, rendered.loss_mask, strict=True) if learn])
        assert dialogue.messages[-1].text in learned and dialogue.messages[0].text not in learned
        if kind == "react":
            assert ("Action: " in learned) == (not tags)
