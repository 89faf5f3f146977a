"""A comparison on the console, as Markdown and as JSON."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from qianwen.eval.compare import Comparison, compare
from qianwen.eval.compare_report import diff_table, notes, save_diff, to_markdown, verdict_text
from qianwen.eval.example_cards import VERDICTS

from .conftest import row, write_results


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    write_results(tmp_path / "a", {"mmlu": [row(i, 0) for i in range(40)], "x|y": [row(i, 1) for i in range(5)]})
    write_results(
        tmp_path / "b",
        {"mmlu": [row(i, 1) for i in range(39)] + [row(39, 1, prompt=["?"])], "x|y": [row(i, 1) for i in range(5)]},
        settings={"": {"bits": 8}, "mmlu": {"shots": 0}},
    )
    return compare(tmp_path / "a", tmp_path / "b")


def test_the_table_says_which_is_higher_and_what_is_tied(comparison: Comparison) -> None:
    console = Console(width=200, file=io.StringIO())
    console.print(diff_table(comparison))
    _, mmlu, other = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "+1" in mmlu and "B is higher" in mmlu and "tied" not in mmlu
    assert "tied" in other


def test_notes_name_settings_changes_and_what_is_left_out(comparison: Comparison) -> None:
    text = "\n".join(notes(comparison))
    assert "bits is 4 in A and 8 in B" in text and "mmlu: the settings differ: shots is 5 in A and 0 in B" in text
    assert "changed from wrong to right (39): 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 …" in text
    assert "examples that are not compared, the prompts differ (1): 39" in text


def test_a_task_without_a_common_example_has_a_row(tmp_path: Path) -> None:
    write_results(tmp_path / "a", {"mmlu": [row(0, 0)]})
    write_results(tmp_path / "b", {"mmlu": [row(0, 0, prompt=["?"])]})
    text = to_markdown(compare(tmp_path / "a", tmp_path / "b"))
    assert "| mmlu | – | – | – | – | – | – | not compared | 0 |  |" in text


def test_the_files_have_every_changed_example(comparison: Comparison, tmp_path: Path) -> None:
    markdown, plain = (path.read_text(encoding="utf-8") for path in save_diff(tmp_path / "new" / "out", comparison))
    assert ", ".join(map(str, range(39))) in markdown and markdown == to_markdown(comparison)
    assert "x\\|y" in markdown and "McNemar" in markdown
    saved = json.loads(plain)
    assert [change["index"] for change in saved["tasks"][0]["changes"]] == list(range(39))
    assert saved["differences"][0]["difference"] == 1 and saved["differences"][0]["tied"] is False
    assert saved["tasks"][0]["unpaired"] == {"39": "the prompts differ"}


def test_every_verdict_has_a_word() -> None:
    assert len({verdict_text(verdict) for verdict in VERDICTS}) == len(VERDICTS)
