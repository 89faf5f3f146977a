"""All stages with a model that follows the schema it is given, and the same run in pieces."""

import json
import random
import re

import pytest

from qianwen.align.dialogues import read_dialogues
from qianwen.align.self_instruct.accepted import Asked, SelfInstructConfig, accepted_questions, accepted_tools, part_of
from qianwen.align.self_instruct.outcome import COUNTS, REJECTED, dialogue_of, write_outcome
from qianwen.align.self_instruct.stages import Stages
from qianwen.align.self_instruct.tools import Rejected
from qianwen.chat.model import Delta
from qianwen.runtime.files import read_jsonl

THINGS = [
    "ferry",
    "quarry",
    "bakery",
    "orchard",
    "tunnel",
    "market",
    "harbour",
    "chapel",
    "museum",
    "canal",
    "garage",
    "circus",
]
PLACES = ["Split", "Bari", "Kiel", "Turku", "Cadiz", "Varna", "Bergen", "Genoa", "Antwerp", "Riga", "Tallinn", "Odense"]


class Author:
    """Writes what each stage asks for, as a good model would, from the seed of the request; `count` requests so far."""

    def __init__(self, fails: bool = False) -> None:
        self.count, self.fails = 0, fails

    def chat(self, messages, functions=(), *, response_format=None, seed, **options):
        self.count += 1
        draw = random.Random(seed)
        prompt = messages[-1].text
        text = "nonsense" if self.fails else self.write(prompt, response_format, draw)
        yield Delta(text)
        yield Delta(finish_reason="stop")

    def write(self, prompt, schema, draw) -> str:
        if schema is None:
            known = re.search(r"\{.*\}", prompt)
            if not known:
                return "Fish breathe with gills."
            return " ".join(f"The {name} is {value}." for name, value in json.loads(known[0]).items())
        if "anyOf" in schema:
            return self.call(prompt, schema)
        if "name" in schema["properties"]:
            return self.tool(draw)
        item = schema["properties"]["messages"]["items"]
        if item["type"] == "string":
            return json.dumps(
                {"messages": [f"How do {draw.choice(THINGS)}s in {place} work?" for place in draw.sample(PLACES, 4)]}
            )
        (name,) = item["properties"]["arguments"]["properties"]
        first, second = re.search(r'"name": "([a-z]+)_([a-z]+)', prompt).groups()
        messages = [
            {"arguments": {name: place}, "message": f"{first} {second} {place}, {' '.join(draw.sample(THINGS, 3))}"}
            for place in draw.sample(PLACES, 4)
        ]
        return json.dumps({"messages": messages})

    def tool(self, draw) -> str:
        first, second = draw.sample(THINGS, 2)
        field = {"type": "string", "description": "Name of the town", "examples": ["Split", "Bari", "Kiel"]}
        fee = {"name": "fee", "type": "integer", "description": "Fee in euros", "examples": ["310", "480", "790"]}
        return json.dumps(
            {
                "name": f"{first}_{second}",
                "description": " ".join([first, second, *draw.sample(THINGS, 4)]),
                "parameters": [{"name": "town", **field}],
                "results": [fee],
            }
        )

    def call(self, prompt, schema) -> str:
        question = prompt.partition("A user writes: ")[2]
        place = next((place for place in PLACES if place in question.partition("\n")[0]), "")
        names = [each["properties"]["name"]["const"] for each in schema["anyOf"]]
        fits = (name for name in names[:-1] if question.startswith(" ".join(name.split("_")[:2])))
        chosen = next(fits, "none")
        arguments = {} if chosen == "none" else {"town": place}
        return json.dumps({"thought": f"I need the fee in {place}.", "name": chosen, "arguments": arguments})


CONFIG = SelfInstructConfig(model="author", tools=24, questions=2, evaluation_share=0.3, plain_share=0.2, concurrency=3)


def english(stages: Stages) -> None:
    """Only English, which the author writes."""
    stages._tool = lambda number, ask=stages._tool: ask(2 * number)


def run(folder, model):
    stages = Stages(model, CONFIG, folder)
    english(stages)
    tools = accepted_tools(list(stages.tools()))
    asked = accepted_questions(list(stages.questions(tools[0])), tools[0], CONFIG)
    dialogues = list(stages.dialogues(asked[0], tools[0]))
    return tools, asked, dialogues, write_outcome(folder, tools, asked, dialogues)


def test_accepted_dialogues_are_divided_by_tools_and_read_by_sft(tmp_path):
    tools, asked, _, counts = run(tmp_path, Author())
    assert counts == json.loads((tmp_path / COUNTS).read_text()) and counts["dialogues"]["accepted"] > 40
    offered = {}
    for part in ("train", "evaluation"):
        dialogues = list(read_dialogues(tmp_path / f"{part}.jsonl"))
        offered[part] = {function.name for dialogue in dialogues for function in dialogue.functions}
        assert counts[part] == {"dialogues": len(dialogues), "tools": len(offered[part])} and offered[part]
        for dialogue in dialogues:
            assert [message.role for message in dialogue.messages] in (
                ["user", "assistant", "tool", "assistant"],
                ["user", "assistant"],
            )
    assert not offered["train"] & offered["evaluation"]
    assert {tool.spec.name for tool in tools[0] if part_of(tool, CONFIG) == "evaluation"} >= offered["evaluation"]


def test_every_reply_is_accepted_or_rejected_with_a_reason(tmp_path):
    tools, asked, dialogues, counts = run(tmp_path, Author())
    rejected = list(read_jsonl(tmp_path / REJECTED))
    for stage, judged in (("tools", CONFIG.tools), ("dialogues", len(dialogues))):
        assert counts[stage]["judged"] == judged == counts[stage]["accepted"] + sum(counts[stage]["rejected"].values())
        assert sum(row["stage"] == stage for row in rejected) == sum(counts[stage]["rejected"].values())
    # the author answers in English where it is asked for Chinese
    assert counts["questions"]["rejected"].keys() <= {"near duplicate", "question in the wrong language"}
    assert counts["dialogues"]["acceptance"] > 0.9
    assert all(row["reason"] and row["row"] for row in rejected)


def test_a_killed_run_goes_on_and_ends_in_the_same_files(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    run(whole, Author())
    for name, share in (("tools.jsonl", 0.6), ("questions.jsonl", 1.0), ("dialogues.jsonl", 0.4)):
        cut.mkdir(exist_ok=True)
        content = (whole / name).read_bytes()
        (cut / name).write_bytes(content[: int(share * len(content))])
        model = Author()
        if name != "questions.jsonl":
            run(cut, model)
            assert all((cut / each.name).read_bytes() == each.read_bytes() for each in whole.iterdir())
            assert model.count > 0


def test_a_model_that_writes_nonsense_gives_no_tool(tmp_path):
    stages = Stages(Author(fails=True), CONFIG, tmp_path)
    tools, rejected = accepted_tools(list(stages.tools()))
    assert not tools and {reason for _, reason in rejected} == {"invalid JSON"}


def test_a_reply_that_was_cut_short_is_rejected():
    row = {"reply": "{}", "language": "en", "finish_reason": "length", "tool": None}
    assert [reason for _, reason in accepted_tools([row])[1]] == ["cut short"]
    assert [reason for _, reason in accepted_questions([row], [], CONFIG)[1]] == ["cut short"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Fish breathe with 2 gills.", "number from memory"),
        ("鱼用鳃呼吸。", "text in the wrong language"),
        ("", "text too short or long"),
    ],
)
def test_an_answer_without_a_tool_is_judged_by_its_text(reply, reason):
    asked = Asked("How do fish breathe?", "en", "train", None)
    row = {"question": asked.question, "offered": [], "answer": {"reply": reply, "finish_reason": "stop"}}
    with pytest.raises(Rejected, match=reason):
        dialogue_of(row, asked, {})
