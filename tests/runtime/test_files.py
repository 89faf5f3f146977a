"""JSON lines, the lock and the run folder."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zstandard

from qianwen.runtime import files
from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.files import RunFolder, lock, read_jsonl, repair_jsonl, write_jsonl

# ---- JSON lines ----


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_rows_come_back_and_the_same_rows_are_the_same_bytes(tmp_path, suffix):
    rows = [{"text": "多 🙂 \u2028 line"}, {"n": 1, "lone": "\ud800"}, {}]
    first, second = tmp_path / f"a.jsonl{suffix}", tmp_path / f"b.jsonl{suffix}"
    assert write_jsonl(first, rows) == write_jsonl(second, iter(rows)) == 3
    assert list(read_jsonl(first)) == rows
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("half", ["", "{", '{"n": 1}', '{"text": "多'])
def test_half_a_row_at_the_end_is_cut_off(tmp_path, half):
    path = tmp_path / "a.jsonl"
    assert repair_jsonl(path) == 0 and not path.exists()
    write_jsonl(path, [{"text": "多"}, {}])
    whole = path.read_bytes()
    path.write_bytes(whole + half.encode()[:-1] if half else whole)
    assert repair_jsonl(path) == 2 and path.read_bytes() == whole
    path.write_bytes(half.encode())
    assert repair_jsonl(path) == 0 and path.read_bytes() == b""


def test_blank_lines_crlf_and_a_byte_order_mark_are_accepted(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert [row["a"] for row in read_jsonl(tmp_path / "a.jsonl")] == [1, 2]


@pytest.mark.parametrize(
    "bad", [b"{", b"[1]", b"null", b'{"a": \xff}', b'{"a": 1} x', b"[" * 100_000, b"\x00"], ids=range(7)
)
def test_a_bad_line_is_named(tmp_path, bad):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"good": 1}\n' + bad + b"\n")
    rows = read_jsonl(path)
    assert next(rows) == {"good": 1}
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: "):
        next(rows)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_torn_or_false_archive_is_named(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    compress = gzip.compress if suffix == ".gz" else zstandard.compress
    whole = compress(b"".join(json.dumps({"n": n, "noise": os.urandom(8).hex()}).encode() + b"\n" for n in range(9999)))
    for data in (whole[: len(whole) // 2], whole[:3], b"not compressed at all", whole[:100] + b"\0" * 99 + whole[199:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.jsonl"):
            list(read_jsonl(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        list(read_jsonl(tmp_path / "nowhere.jsonl"))


@pytest.mark.parametrize("name", ["with spaces", "中文", "🙂 emoji"])
def test_any_name_works(tmp_path, name):
    assert write_jsonl(tmp_path / f"{name}.jsonl", [{"名": name}]) == 1
    assert list(read_jsonl(tmp_path / f"{name}.jsonl")) == [{"名": name}]
    with lock(tmp_path / name):
        pass


# ---- lock and run folder ----

HOLD = """
import sys
from qianwen.runtime.files import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"in use by process {holder.pid}"), lock(tmp_path / "run"):
            pass
        holder.kill()
    with lock(tmp_path / "run"), pytest.raises(ConfigError, match=str(os.getpid())), lock(tmp_path / "run"):
        pass
    with lock(tmp_path / "run"):
        pass


@dataclass(frozen=True)
class Loop:
    steps: int = 20


@dataclass(frozen=True)
class Config:
    seed: int = 1
    folder: Path = Path("data")
    loop: Loop = field(default_factory=Loop)


def test_a_run_is_created_continued_and_refused_when_it_was_made_differently(tmp_path, monkeypatch):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    run = RunFolder.create("中 a", "pretrain", Config())
    assert (run.path, run.name, run.metrics_path) == (tmp_path / "中 a", "中 a", tmp_path / "中 a" / "metrics.jsonl")
    run.set_state("finished")
    again = RunFolder.create("中 a", "pretrain", Config())
    assert again.record["created"] == run.record["created"]
    opened = RunFolder.open("中 a")
    assert (opened.record["state"], opened.config) == ("running", {"seed": 1, "folder": "data", "loop": {"steps": 20}})
    opened.metrics_path.write_text('{"step": 1}\n')
    with pytest.raises(ConfigError, match=r"loop\.steps = 20, not 30"):
        RunFolder.create("中 a", "pretrain", Config(loop=Loop(30)))
    with pytest.raises(ConfigError, match="stage = pretrain, not sft"):
        RunFolder.create(tmp_path / "中 a", "sft", Config())


@pytest.mark.parametrize("state", ["failed", "interrupted", "running"])
def test_a_run_that_ended_before_it_began_does_not_hold_its_name(tmp_path, state):
    RunFolder.create(tmp_path / "a", "pretrain", Config()).set_state(state)
    run = RunFolder.create(tmp_path / "a", "sft", Config(loop=Loop(30)))
    assert (run.record["stage"], RunFolder.open(tmp_path / "a").config["loop"]) == ("sft", {"steps": 30})


def test_a_missing_and_a_damaged_run_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="no run at"):
        RunFolder.open(tmp_path / "none")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        RunFolder.open(tmp_path)


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path))
    assert files.cache_dir() == tmp_path
    monkeypatch.delenv("QIANWEN_CACHE")
    assert files.cache_dir().name == "qianwen"
