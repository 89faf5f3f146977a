"""Whatever a Parquet column holds and whatever a file is called: it is read, or set aside with its reason."""

import datetime
import decimal
import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from qianwen.data.curate.corpus import CorpusConfig, build_corpus, stage
from qianwen.data.documents.document import Rejected
from qianwen.data.documents.readers import read_documents, read_file
from qianwen.data.file_listing import list_files, printable

TEXTS = pa.array(["one text", "another text", "a third text"])
FAR = pa.array([6_250_000_000_000_000] * 3, pa.int64()).cast(pa.timestamp("ms"))  # the year 200,000


def read(folder: Path, table: pa.Table, **options: object) -> list:
    parquet.write_table(table, folder / "a.parquet", **options)
    return list(read_file(folder / "a.parquet", "a.parquet"))


COLUMNS = {
    "nanoseconds": pa.array([1_700_000_000_123_456_789] * 3, pa.timestamp("ns")),
    "nanoseconds of a zone": pa.array([1_700_000_000_123_456_789] * 3, pa.timestamp("ns", "Asia/Shanghai")),
    "the year 200,000": FAR,
    "before the year 1": pa.array([-70_000_000_000_000] * 3, pa.int64()).cast(pa.timestamp("ms")),
    "a zone that does not exist": pa.array([0] * 3, pa.timestamp("us", "Nowhere/City")),
    "dates": pa.array([datetime.date(2020, 1, 1)] * 3),
    "far dates": pa.array([2_000_000_000] * 3, pa.int32()).cast(pa.date32()),
    "times": pa.array([86_399_999_999_999] * 3, pa.int64()).cast(pa.time64("ns")),
    "durations": pa.array([2**62] * 3, pa.int64()).cast(pa.duration("ns")),
    "decimals": pa.array([decimal.Decimal("1e30")] * 3, pa.decimal256(60, 2)),
    "structs": pa.array([{"at": 1, "in": {"deep": [1, 2]}}] * 3),
    "structs of times": pa.StructArray.from_arrays([FAR], ["at"]),
    "lists": pa.array([[1], [], None]),
    "maps": pa.array([[("k", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
    "dictionaries": pa.array(["x", "y", "x"]).dictionary_encode(),
    "bytes": pa.array([b"\xff\x00"] * 3),
    "bytes of one length": pa.array([b"\xff" * 16] * 3, pa.binary(16)),
    "nothing": pa.nulls(3),
    "bad UTF-8": pa.Array.from_buffers(
        pa.string(),
        3,
        [None, *map(pa.py_buffer, (bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]), b"\xff\xfe\xfd"))],
    ),
    "truths": pa.array([True, False, None]),
    "numbers": pa.array([1.5, float("nan"), float("inf")]),
}


@pytest.mark.parametrize("name", ["odd", "source", "lang", "licence", "kind", "url"])
@pytest.mark.parametrize("column", COLUMNS)
def test_texts_are_read_whatever_is_beside_them(tmp_path: Path, column: str, name: str) -> None:
    found = read(tmp_path, pa.table({"text": TEXTS, name: COLUMNS[column]}))
    assert [row["text"] for row in found if not isinstance(row, Rejected)] == TEXTS.to_pylist()
    assert all(value.encode("utf-8") or True for row in found for value in row.values())


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS.dictionary_encode(),
        TEXTS.cast(pa.large_string()),
        TEXTS.cast(pa.binary()),
        TEXTS.cast(pa.large_binary()),
        TEXTS.cast(pa.string_view()),
    ],
)
def test_texts_of_any_type_of_string(tmp_path: Path, texts: pa.Array) -> None:
    assert [row["text"] for row in read(tmp_path, pa.table({"text": texts}))] == TEXTS.to_pylist()
    assert [row["text"] for row in read(tmp_path, pa.table({"content": texts}))] == TEXTS.to_pylist()


@pytest.mark.parametrize("column", ["the year 200,000", "structs", "lists", "numbers", "nothing", "bytes", "bad UTF-8"])
def test_a_text_that_is_none_is_set_aside_by_row(tmp_path: Path, column: str) -> None:
    found = read(tmp_path, pa.table({"text": COLUMNS[column], "lang": TEXTS}))
    assert [(row.line, row.reason) for row in found] == [
        (1, "no_text_field"),
        (2, "no_text_field"),
        (3, "no_text_field"),
    ]


def test_tables_without_rows_or_texts(tmp_path: Path) -> None:
    assert read(tmp_path, pa.table({"text": TEXTS[:0]}))[0].reason == "empty"
    (found,) = read(tmp_path, pa.table({"words": TEXTS, "at": FAR}))
    assert (found.line, found.reason, found.detail) == (0, "no_text_field", "words, at")
    twice = pa.Table.from_arrays([TEXTS, pa.array([1, 2, 3])], names=["text", "text"])
    assert [row["text"] for row in read(tmp_path, twice)] == TEXTS.to_pylist()


def test_a_damaged_row_group_costs_only_itself(tmp_path: Path) -> None:
    texts = [f"{number} " + "word " * 200 for number in range(30)]
    table = pa.table({"text": texts})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=10, compression="zstd", use_dictionary=False)
    place = parquet.read_metadata(tmp_path / "a.parquet").row_group(1).column(0).data_page_offset
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[place : place + 60] = b"\xff" * 60
    (tmp_path / "a.parquet").write_bytes(data)
    found = list(read_file(tmp_path / "a.parquet", "a.parquet"))
    bad = [(row.line, row.reason) for row in found if isinstance(row, Rejected)]
    assert bad == [(11, "unreadable")] and len(found) == 21


ODD = {
    "source": "a\ud800b",
    "lang": ["x"],
    "licence": {"a": 1},
    "kind": 7,
    "url": "http://a.org/\udfff",
    "passed": True,
}


def test_odd_fields_of_a_record_end_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": "t", key: value}) for key, value in ODD.items()))
    found = list(read_file(tmp_path / "a.jsonl", "a.jsonl"))
    assert len(found) == len(ODD) and all(isinstance(row, dict) for row in found)
    assert all(str(value).encode("utf-8") for row in found for value in row.values())


NAMES = [
    b"line\nbreak.txt",
    b"\xff\xfe.txt",
    b"-rf.txt",
    b"--help",
    b" ",
    b"a b\t.txt",
    "猫.txt".encode(),
    b"caf\xe9.md",
    b"'\"`$(x).txt",
    b"a%20b#?.txt",
    b"[bold]x[bold].txt",
    b"x" * 250,
    b"con.txt",
    b"a:b.txt",
    b"~",
    b"*.txt",
    b"{name}.txt",
    b"\x1b[31m.txt",
]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows any bytes in a name")
def test_a_file_may_be_called_anything(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / os.fsdecode(name)).write_text(f"text number {number} " * 5)
    found = list(read_documents(folder))
    assert len(found) == len(NAMES) and not [row for row in found if isinstance(row, Rejected)]
    names = [file.name for file in list_files(str(folder))]
    assert len(set(names)) == len(NAMES) and all(name.encode("utf-8") and name.isprintable() for name in names)
    (tmp_path / "out").mkdir()
    counts = build_corpus(folder, tmp_path / "out", CorpusConfig(held_out=0.4))
    assert not counts["rejected"]


def test_settings_with_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    settings = {"path": os.fsdecode(b"\xff.txt")}
    assert stage(tmp_path / "a", settings, lambda folder: None) and not stage(
        tmp_path / "a", settings, lambda folder: None
    )
    assert printable("a\udcffb\n") == "a\\xffb\\x0a" and printable("猫") == "猫"
