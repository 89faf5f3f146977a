"""Input cut into parts: everything once, the same way every time."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from qianwen.data.curate import input_parts
from qianwen.data.curate.input_parts import plan, read_part
from qianwen.data.documents.document import Rejected
from qianwen.data.documents.readers import read_documents
from qianwen.runtime.errors import DataError

ROWS = [{"text": f"document {number} " + "x" * (number % 97), "source": f"s:{number}"} for number in range(3000)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_parts, "SMALLEST", 10_000)


def read_all(path: Path) -> tuple[int, list]:
    cut = plan([str(path)])
    return len(cut), [found for part in cut for found in read_part(part, path / "scratch", ())]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_slices_of_a_file_are_all_of_it_once(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name.endswith("parquet"):
        parquet.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=100)
    else:
        pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(file.suffix, bytes)
        file.write_bytes(pack(LINES))
    number, found = read_all(tmp_path)
    assert number > 1 and sorted(one["source"] for one in found) == sorted(row["source"] for row in ROWS)
    assert plan([str(tmp_path)]) == plan([str(tmp_path)])


def test_lines_keep_their_numbers_in_every_slice(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"t{number}"}) if number % 10 else "{bad" for number in range(1, 3001)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    number, found = read_all(tmp_path)
    bad = [one.line for one in found if isinstance(one, Rejected)]
    assert number > 1 and bad == list(range(10, 3001, 10))
    assert found[0]["source"] == "a.jsonl:1" and len(found) == 3000


def test_one_long_line_is_one_document_whatever_the_slices(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json.dumps({"text": "y" * 100_000}).encode() + b"\n" + LINES[:2000])
    _, found = read_all(tmp_path)
    assert len(found[0]["text"]) == 100_000 and len(found) == 1 + LINES[:2000].count(b"\n") + 1


def test_small_files_share_a_part_and_kinds_are_told(tmp_path: Path) -> None:
    for name, text in (
        ("a.txt", "plain"),
        ("b.md", "# mark"),
        ("c.lua", "local x = 1"),
        ("d.html", "<p>page text</p>"),
        ("e.exe", "\x7fELF"),
    ):
        (tmp_path / name).write_text(text)
    number, found = read_all(tmp_path)
    kinds = {one["source"]: one["kind"] for one in found if not isinstance(one, Rejected)}
    assert number == 1 and kinds == {"a.txt": "text", "b.md": "docs", "c.lua": "code", "d.html": "web"}
    assert [one.file for one in found if isinstance(one, Rejected)] == ["e.exe"]


def test_names_of_several_inputs_begin_with_the_input(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    names = [one.name for part in plan([str(tmp_path / "one"), str(tmp_path / "two")]) for one in part]
    assert names == ["one/a.txt", "two/a.txt"]
    with pytest.raises(DataError, match="no such file or folder"):
        plan([str(tmp_path / "three")])


def test_a_slice_knows_when_its_file_was_changed(tmp_path: Path) -> None:
    for number, name in enumerate(("a.txt", "b.jsonl", "c.html"), start=1):
        (tmp_path / name).write_text(json.dumps({"text": "the same size"}))
        os.utime(tmp_path / name, ns=(7, number * 10**9))
    assert {one.name: one.stamp for part in plan([str(tmp_path)]) for one in part} == {
        "a.txt": 10**9,
        "b.jsonl": 2 * 10**9,
        "c.html": 3 * 10**9,
    }
    before = plan([str(tmp_path)])
    os.utime(tmp_path / "b.jsonl", ns=(8, 2 * 10**9))
    assert plan([str(tmp_path)]) == before, "the time of the last access does not count"
    os.utime(tmp_path / "b.jsonl", ns=(8, 2 * 10**9 + 1))
    assert plan([str(tmp_path)]) != before


def test_a_curation_reads_what_everything_else_reads(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES + b"{bad\n\n" + LINES[:1000])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES))
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "c.parquet", row_group_size=100)
    for name, text in (
        ("d.txt", "plain"),
        ("e.lua", "local x = 1"),
        ("f.html", "<p>page text</p>"),
        ("g.exe", "\x7fELF"),
    ):
        (tmp_path / name).write_text(text)
    number, found = read_all(tmp_path)
    expected = list(read_documents(tmp_path))
    assert number > 10 and len(expected) > 3 * len(ROWS)
    assert sorted(map(str, found)) == sorted(map(str, expected))
