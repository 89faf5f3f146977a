"""Results as a table, a file and a page."""

import io
import json
from pathlib import Path

from rich.console import Console

from qianwen.chat import Message
from qianwen.eval.metrics import Estimate
from qianwen.eval.report import add_to_page, console_table, load_metrics, save_results
from qianwen.eval.runner import Result
from qianwen.eval.task import Answer, Complete, Generate, Loglikelihood, Score, Scored
from qianwen.runtime.page import Page

NONE = Score(shares={})
RESULT = Result(
    task="questions",
    metrics={"exact_match": Estimate(0.625, 0.5, 0.75, 8)},
    scored=[
        Scored(
            Generate(messages=[Message("user", "问?")], facts={"kind": "x"}),
            Answer(text="<b>答</b>", is_stopped=True),
            NONE,
        ),
        Scored(Loglikelihood(continuation="t"), Answer(logprob=-1.5, num_tokens=1), NONE),
        Scored(Complete(prompt="1, 2,"), Answer(text=" 3", further=(Answer(text=" 4"),)), NONE),
    ],
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_results(tmp_path / "results.json", [RESULT], "some/model")
    assert load_metrics(tmp_path / "results.json") == {"questions": RESULT.metrics}
    saved = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert saved["model"] == "some/model"
    first, second, third = saved["results"][0]["answered"]
    assert first["asked"] == ["问?"] and first["text"] == "<b>答</b>" and second["logprob"] == -1.5
    assert "tool_calls" not in first and "conversation" not in first
    assert third["asked"] == ["1, 2,"] and [sample["text"] for sample in third["further"]] == [" 4"]


def test_tables_show_value_and_interval() -> None:
    console = Console(width=100, file=io.StringIO())
    console.print(console_table([RESULT]))
    assert "0.625" in console.file.getvalue()  # type: ignore[attr-defined]
    page = Page("Results")
    add_to_page(page, [RESULT])
    assert "0.5 – 0.75" in page.html()
