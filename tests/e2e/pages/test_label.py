"""Label a file in a browser: twenty rows read, marked, edited and ranked, a step of ReAct corrected, exported."""

import json
import os
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from qianwen.align.dialogues import read_dialogues
from qianwen.runtime.files import read_jsonl, write_jsonl

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
REACT = (
    "Thought: I look.\nAction: weather\nAction Input: {}\nObservation: rain\nThought: I know.\nFinal Answer: It rains."
)
ATTACK = "</textarea><script>hit('text')</script><img src=x onerror=\"hit('image')\">"


def rows():
    yield from ({"instruction": f"Question {n}", "output": f"Answer {n}"} for n in range(14))
    yield {"instruction": ATTACK, "output": ATTACK}
    yield {"messages": [{"role": "user", "content": "Rome?"}, {"role": "assistant", "content": REACT}], "tools": TOOLS}
    yield from ({"prompt": f"Pair {n}", "chosen": "good", "rejected": "bad"} for n in range(4))


@pytest.fixture
def label_site(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows())
    command = [sys.executable, "-m", "qianwen", "data", "label", str(path), "--port", "0"]
    environment = {**os.environ, "QIANWEN_LANG": "en", "COLUMNS": "300"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as job:
        yield path, job.stdout.readline().split()[2].rstrip(";")
        job.kill()


def go(page, number):
    expect(page.locator("#place")).to_have_text(f"Row {number} of 20")


def test_twenty_rows_are_read_marked_edited_ranked_and_exported(label_site, visit):
    path, url = label_site
    page = visit(url, "#place").page
    for number in range(14):
        go(page, number + 1)
        expect(page.locator("section.user pre")).to_have_text(f"Question {number}")
        if number == 3:
            page.locator("section.assistant textarea").fill("A better answer")
            page.keyboard.press("Control+Enter")
            expect(page.locator("section.assistant textarea")).to_have_value("A better answer")
        page.keyboard.press("d" if number == 5 else "f" if number == 6 else "k")
    go(page, 15)
    expect(page.locator("section.user pre")).to_have_text(ATTACK)
    expect(page.locator("section.assistant textarea")).to_have_value(ATTACK)
    page.keyboard.press("d")
    go(page, 16)
    expect(page.locator("#checks")).to_have_text("invalid arguments")
    page.locator("section.input textarea").fill('{"town": "Rome"}')
    page.locator("#keep").click()
    go(page, 16)  # still against the schema
    page.locator("section.input textarea").fill('{"city": "Rome"}')
    page.keyboard.press("Escape")
    page.keyboard.press("k")
    for number in range(17, 21):
        go(page, number)
        shown = [page.locator("textarea").nth(place).input_value() for place in (0, 1)]
        page.keyboard.press(str(shown.index("good") + 1))
    expect(page.locator("#counts")).to_contain_text("20 of 20 marked")
    page.locator("#export").click()
    expect(page.locator("[role=status]")).to_contain_text("rows.jsonl.sft.jsonl (13)")

    sft = list(read_dialogues(f"{path}.sft.jsonl"))
    assert len(sft) == 13 and sft[3].messages[-1].text == "A better answer"
    assert sft[-1].messages[-1].text == REACT.replace("{}", '{"city": "Rome"}')
    pairs = [
        (row["chosen"][-1]["content"], row["rejected"][-1]["content"])
        for row in read_jsonl(f"{path}.preferences.jsonl")
    ]
    assert pairs.count(("good", "bad")) == 4 and ("A better answer", "Answer 3") in pairs
    assert [json.loads(line) for line in path.read_text().splitlines()] == list(rows())


def test_the_page_keeps_nobody_out(label_site, visit):
    visitor = visit(f"{label_site[1]}?row=15", "#place")
    assert not visitor.findings()


def test_the_filter_leads_to_flagged_rows_only(label_site, visit):
    _, url = label_site
    page = visit(url, "#place").page
    page.keyboard.press("f")
    go(page, 2)
    page.locator("form[method=get] select[name=show]").select_option("flag")
    page.locator("form[method=get] button").click()
    go(page, 1)
    page.locator("form[method=get] select[name=show]").select_option("checks")
    page.locator("form[method=get] button").click()
    go(page, 16)
