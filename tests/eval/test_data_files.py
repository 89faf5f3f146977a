"""Benchmark files in every published form say the same, and a damaged or unknown one is named."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from qianwen.eval.data_files import csv_rows, find, json_rows, members, parquet_rows, read_text
from qianwen.runtime.errors import DataError

FILES = {
    "test/law_test.csv": "id,question\n0,二\n",
    "test/art_test.csv": "id,question\n0,一\n",
    "dev/law_dev.csv": "x\n",
}
EXPECTED = [("test/art_test.csv", "id,question\n0,一\n"), ("test/law_test.csv", "id,question\n0,二\n")]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}


def write(folder: Path, files: dict[str, str], suffix: str = "") -> Path:
    for name, text in files.items():
        path = folder / (name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(COMPRESS[suffix](text.encode()))
    return folder


def as_zip(path: Path, files: dict[str, str], prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(prefix + name, text)
    return path


def as_tar(path: Path, files: dict[str, str], prefix: str = "") -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(prefix + name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


# ---- finding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("present", "found"),
    [
        (["mmlu.zip", "other.zip"], "mmlu.zip"),
        (["mmlu/data/x.csv"], "mmlu"),
        (["mmlu.zip", "mmlu/data/x.csv"], "mmlu.zip"),
        (["sums.jsonl.zst"], "sums.jsonl.zst"),
        (["sums.jsonl", "sums.jsonl.gz"], "sums.jsonl"),
        (["code-v2.jsonl.gz"], "code-v2.jsonl.gz"),
        (["test/a_test.csv"], "."),
    ],
)
def test_the_first_published_name_is_found(tmp_path: Path, present: list[str], found: str) -> None:
    write(tmp_path, dict.fromkeys(present, "x"))
    names = ("mmlu.zip", "mmlu", "sums.jsonl", "code*.jsonl")
    assert find(tmp_path, names, inside=("test/*_test.csv",)) == tmp_path / found


def test_a_file_is_taken_as_it_is_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.bin").write_text("x")
    assert find(tmp_path / "mine.bin", ("mmlu.zip",)) == tmp_path / "mine.bin"


def test_what_is_not_there_is_named_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"contains none of these: mmlu\.zip, mmlu, test/\*_test\.csv"):
        find(tmp_path, ("mmlu.zip", "mmlu"), inside=("test/*_test.csv",))
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find(tmp_path / "nowhere", ("mmlu.zip",))


# ---- folders and archives -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESS)
def test_the_files_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, FILES, suffix)
    expected = [(name + suffix, text) for name, text in EXPECTED]
    assert list(members(tmp_path, "test/*_test.csv")) == expected


@pytest.mark.parametrize("prefix", ["", "data/", "a/b/"])
@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_an_archive_says_the_same_as_its_folder(tmp_path: Path, name: str, prefix: str) -> None:
    junk = {"__MACOSX/test/._law_test.csv": "\0\5\26\7"}
    archive = (as_zip if name.endswith("zip") else as_tar)(tmp_path / name, junk | FILES, prefix)
    assert list(members(archive, "test/*_test.csv")) == [(prefix + name, text) for name, text in EXPECTED]


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": "\ufeffid\n1\n"})
    assert read_text(tmp_path / "a.csv") == "id\n1\n" == dict(members(tmp_path, "*.csv"))["a.csv"]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_one_file_is_read_in_every_compression(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, {"a.txt": "一\r\n二\n"}, suffix)
    assert read_text(tmp_path / f"a.txt{suffix}") == "一\r\n二\n"


@pytest.mark.parametrize("damage", ["cut zip", "bad member", "cut gzip", "cut zstd", "not UTF-8", "plain text"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = as_zip(tmp_path / "x.zip", FILES)
    data = bytearray(path.read_bytes())
    if damage == "cut zip":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "bad member":
        data[60] ^= 255
        path.write_bytes(data)
    elif damage == "plain text":
        path.write_text("hello")
    else:
        path = tmp_path / "folder"
        text = "questions, " * 5000
        write(path, {"test/x_test.csv": text}, {"cut gzip": ".gz", "cut zstd": ".zst"}.get(damage, ""))
        (file,) = (path / "test").iterdir()
        file.write_bytes(b"\xff\xfe" if damage == "not UTF-8" else file.read_bytes()[:-9])
    with pytest.raises(DataError, match=path.name):
        list(members(path, "test/*_test.csv"))


# ---- rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_rows_by_header_and_by_position(newline: str) -> None:
    text = newline.join(["id,question,A", '0,"Why, ""how""?",1', '1,"two\nlines",NA', ""])
    rows = [{"id": "0", "question": 'Why, "how"?', "A": "1"}, {"id": "1", "question": "two\nlines", "A": "NA"}]
    assert csv_rows("x.csv", text, ("question", "A")) == rows
    by_position = csv_rows("x.csv", text.partition(newline)[2], ("id", "question", "A"), has_header=False)
    assert by_position == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.csv lacks the columns question, A; it has"),
        ("id,question\n0,why\n", "x.csv lacks the columns A; it has id, question"),
        ("id,question,A\n", "x.csv contains no rows"),
        ("id,question,A\n0,why\n", "x.csv, line 2: 2 columns, but there must be 3"),
        ("id,question,A\n0,why,1,2\n", "x.csv, line 2: 4 columns"),
        ('id,question,A\n0,"why,1\n', "x.csv, line 2: unexpected end of data"),
        ('id,question,A\n0,"why"no,1\n', "x.csv, line 2: ',' expected"),
        ("id,question,A\n0," + "y" * 200_000 + ",1\n", "x.csv, line 2: field larger"),
    ],
)
def test_a_csv_file_that_is_not_what_it_should_be(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        csv_rows("x.csv", text, ("question", "A"))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_json_rows_have_the_fields(tmp_path: Path, suffix: str) -> None:
    rows = [{"question": "一?", "answer": "1"}, {"question": "2?", "answer": "2", "level": 3}]
    write(tmp_path, {"x.jsonl": "\n".join(map(json.dumps, rows)) + "\n\n"}, suffix)
    assert json_rows(tmp_path / f"x.jsonl{suffix}", {"question": str, "answer": str}) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.jsonl contains no rows"),
        ('{"question": "?"}\n', "row 1: the field `answer` is missing"),
        ('{"question": "?", "answer": "1"}\n{"question": "?", "answer": 1}\n', "row 2: the field `answer`"),
        ("[1]\n", "x.jsonl, line 1"),
        ("no json\n", "x.jsonl, line 1"),
    ],
)
def test_json_rows_that_lack_something_are_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, {"x.jsonl": text})
    with pytest.raises(DataError, match=message):
        json_rows(tmp_path / "x.jsonl", {"question": str, "answer": str})


def test_parquet_rows_keep_lists_and_numbers(tmp_path: Path) -> None:
    table = pa.table({"question": ["一?"], "choices": [["a", "b"]], "answer": [1], "unused": ["x"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    row = {"question": "一?", "choices": ["a", "b"], "answer": 1}
    assert parquet_rows(tmp_path / "x.parquet", ("question", "choices", "answer")) == [row]
    with pytest.raises(DataError, match="x.parquet lacks the columns subject; it has question, choices"):
        parquet_rows(tmp_path / "x.parquet", ("question", "subject"))
    parquet.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="empty.parquet contains no rows"):
        parquet_rows(tmp_path / "empty.parquet", ("question",))
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="x.parquet could not be read"):
        parquet_rows(tmp_path / "x.parquet", ("question",))
