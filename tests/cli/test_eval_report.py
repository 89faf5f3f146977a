"""The page, the check of a training corpus and `--diff`, by the commands."""

import json
from pathlib import Path

import pytest

from qianwen.cli import main
from qianwen.runtime.files import write_jsonl

from ..eval.conftest import row, write_results


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    first = write_results(tmp_path / "a", {"mmlu": [row(i, 0) for i in range(20)]})
    second = write_results(tmp_path / "b", {"mmlu": [row(i, i % 2) for i in range(20)]})
    return [str(first), str(second)]


def test_diff_prints_and_writes(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--diff", *folders, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "+0.5" in out and "B is higher" in out and "changed from wrong to right (10)" in out
    assert len(json.loads((tmp_path / "out" / "diff.json").read_text())["tasks"][0]["changes"]) == 10
    assert main(["eval", "--diff", folders[0], folders[0]]) == 0
    assert "tied" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["mmlu"], "leave out mmlu"), (["--limit", "3"], "leave out --limit"), (["--exact"], "leave out --exact"),
        (["--training-corpus", "x"], "leave out --training-corpus"),
        (["m", "mmlu", "--shots", "0"], "m, mmlu, --shots"),
    ],
)  # fmt: skip
def test_diff_refuses_what_it_would_ignore(
    folders: list[str], extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *extra, "--diff", *folders]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 3])
def test_diff_needs_two_folders(folders: list[str], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--diff", *(folders * 2)[:count]]) == 1
    assert f"two folders of results; got {count}" in capsys.readouterr().err


def test_diff_of_a_folder_without_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--diff", str(tmp_path), str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "contains no results" in error and "Traceback" not in error


def test_report_of_a_results_folder(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", folders[0]]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    assert "wrong (20)" in (Path(folders[0]) / "report.html").read_text("utf-8")


def test_report_finds_an_evaluation_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    folder = write_results(tmp_path / "eval" / "tiny", {"mmlu": [row(0, 1)]})
    assert main(["report", "tiny"]) == 0
    assert (folder / "report.html").exists()


def test_the_examples_in_a_training_corpus(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [" ".join(f"w{number}x{k}" for k in range(20)) for number in range(3)]
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(documents):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    write_jsonl(tmp_path / "web.jsonl", [{"text": f"before {documents[1]} after"}, {"text": "something else"}])
    command = ["eval", str(model_folder), "text", "--data", str(tmp_path / "texts"), "--out", str(tmp_path / "r")]
    assert main([*command, "--training-corpus", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "r").exists(), "a wrong path is an error before the model is asked"
    assert main([*command, "--training-corpus", str(tmp_path / "web.jsonl")]) == 0
    out = capsys.readouterr().out
    assert "33.3% (1)" in out and "clean" in out and "report.html" in out
    assert json.loads((tmp_path / "r" / "contamination.json").read_text())["text"]["indices"] == [1]
    assert "33.3% (1)" in (tmp_path / "r" / "report.html").read_text("utf-8")
