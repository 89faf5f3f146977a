"""Files of records in UTF-16 and UTF-32, as Windows programs write them, with a byte order mark or without."""

import codecs
import gzip
import io
import json
from pathlib import Path

import pytest

from qianwen.align.dialogues import read_dialogues
from qianwen.data.documents.document import FilePart, Rejected
from qianwen.data.documents.readers import read_file
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_rows
from qianwen.runtime.json_bytes import as_utf8

WORDS = ("Ärger", "杭州 上\u0a0a0a", "🌧 “so”", "ਊ", "x" * 70_000)  # U+0A0A has the byte of a line break twice
MARKS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16": b"",  # Python writes the mark of this machine
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32": b"",
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
FORMS = [(mark, name) for name, mark in MARKS.items()] + [(b"", name) for name, mark in MARKS.items() if mark]


def dialogue(word: str) -> dict:
    return {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": word}]}


@pytest.fixture(params=FORMS, ids=lambda form: f"{form[1]}{'' if form[0] else ' plain'}")
def encode(request):
    mark, name = request.param
    return lambda text: mark + text.encode(name)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_rows_are_read(tmp_path: Path, encode, end: str, pack) -> None:
    lines = [json.dumps({"text": word}, ensure_ascii=False) for word in WORDS]
    (tmp_path / "rows").write_bytes(pack(encode(end.join([*lines, "", ""]))))
    assert [row["text"] for row in read_rows(tmp_path / "rows") if not isinstance(row, DataError)] == list(WORDS)


@pytest.mark.parametrize("form", ["lines.jsonl", "list.json", "object.json", "lines.json", "list.txt"])
def test_dialogues_are_read(tmp_path: Path, encode, form: str) -> None:
    rows = [dialogue(word) for word in WORDS]
    if form == "object.json":
        rows = rows[:1]
        text = json.dumps(rows[0], ensure_ascii=False, indent=1)
    elif form.startswith("list"):
        text = json.dumps(rows, ensure_ascii=False, indent=1)
    else:
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / form).write_bytes(encode(text))
    texts = [each.messages[1].text for each in read_dialogues(tmp_path / form)]
    assert texts == list(WORDS)[: len(rows)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "README"])
@pytest.mark.parametrize("num_parts", [1, 3])
def test_documents_are_read_once_each(tmp_path: Path, encode, name: str, num_parts: int) -> None:
    texts = [f"{number} {word}" for number in range(600) for word in WORDS[:4]]
    data = encode("\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts))
    (tmp_path / name).write_bytes(data)
    size = len(data)
    read = [
        [each for each in read_file(tmp_path / name, name, part=FilePart(k, num_parts, size))] for k in range(num_parts)
    ]
    documents = [each["text"] for part in read for each in part if not isinstance(each, Rejected)]
    assert sorted(documents) == sorted(texts) and all(part for part in read)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("utf-16-le", b"\x00\xd8"),
        ("utf-16-be", b"\xdc\x00"),
        ("utf-32-le", b"\x00\xd8\x00\x00"),
        ("utf-32-be", b"\x00\x11\x00\x00"),
        ("utf-8", b"\xff"),
    ],
)
def test_a_bad_unit_costs_its_line_only(tmp_path: Path, name: str, unit: bytes) -> None:
    good, start, end = (text.encode(name) for text in ('{"a": 1}\n', '{"a": "', '"}\n'))
    (tmp_path / "rows").write_bytes(good + start + unit + end + good)
    first, second, third = read_rows(tmp_path / "rows")
    assert first == third == {"a": 1}
    assert isinstance(second, DataError) and "line 2: not UTF-8" in str(second)


def test_a_file_that_ends_inside_a_character_is_read_up_to_it() -> None:
    data = io.BufferedReader(io.BytesIO('{"a": 1}\n'.encode("utf-16") + b"\n"))
    assert as_utf8(data).read() == b'{"a": 1}\n'
