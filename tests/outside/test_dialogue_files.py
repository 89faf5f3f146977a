"""Files of records: one bad record ends no run, and what is left out is counted with its reason."""

import gzip
import json
from pathlib import Path

import pytest

from qianwen.align.dialogues import read_dialogues
from qianwen.runtime.errors import DataError

GOOD = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
BAD = {"messages": [{"role": "user", "content": 5}, {"role": "assistant", "content": "a"}]}
LINE = json.dumps(GOOD, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (json.dumps(BAD).encode(), "record 2: `messages[0].content` must be text or a list of parts; got 5"),
        (b"{torn", "line 2: not valid JSON"),
        (b"5", "line 2: not a JSON object: 5"),
        (b'{"messages": "\xff\xfe"}', "line 2: not UTF-8"),
        (b"[" * 100_000, "line 2: not valid JSON"),
        (b'{"text": "plain"}', "record 2: it is plain text"),
        (b'{"messages": [{"role": "assistant", "content": ""}]}', "record 2: every answer is empty"),
        (b"NaN", "line 2: not a JSON object"),
        (b'{"a": 1}{"a": 2}', "line 2: not valid JSON"),
    ],
)
def test_a_bad_line_costs_only_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: bytes, reason: str
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n".join([LINE, bad, LINE, b""]))
    assert [dialogue.messages[1].text for dialogue in read_dialogues(path)] == ["a", "a"]
    report = capsys.readouterr().out
    assert "data.jsonl: 1 of 3 records left out:" in report and reason in report


def test_equal_reasons_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([GOOD, BAD, BAD | {"id": 2}, {"instruction": "q", "output": 2}, BAD]))
    assert len(list(read_dialogues(path))) == 1
    report = capsys.readouterr().out
    assert "4 of 5 records" in report and "3 like record 2: `messages[0].content` must be text" in report
    assert "record 4: `output` must be text; got 2" in report
    assert len(list(read_dialogues(path, quiet=True))) == 1 and not capsys.readouterr().out


def test_many_reasons_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roles = [f"alien {chr(97 + i)}" for i in range(3)]
    rows = [
        {"messages": [{"role": "user", "content": "q"}] * i + [{"role": role, "content": 1}]}
        for i, role in enumerate(roles)
    ]
    fields = [
        {"instruction": "q", "output": "a", name: 5} for name in ("system", "input", "history", "tools", "functions")
    ]
    more = [{"text": "x"}, {"images": ["a"]}, {"videos": ["a"]}, {"audios": ["a"]}, {}, {"messages": 5}]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [GOOD, *rows, *fields, *more]))
    list(read_dialogues(path))
    report = capsys.readouterr().out
    assert "for other reasons" in report and report.count("\n") < 15


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("empty.jsonl", "", "contains no dialogue"),
        ("blank.jsonl", "\n\n \n", "contains no dialogue"),
        ("list.json", "[]", "contains no dialogue"),
        ("torn.json", "[1, 2", "torn.json: "),
        (
            "answers.jsonl",
            '{"instruction": "q", "output": ""}\n' * 4,
            "none of 4 records.*\n.*4 like record 1: every answer is",
        ),
        ("numbers.json", "[1, 2]", "none of 2 records"),
        ("object.json", '{"data": [1]}', "none of 1 record "),
        ("text.txt", "hello\nworld\n", "none of 2 records"),
    ],
)
def test_a_file_without_dialogues_says_so(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=sentence):
        list(read_dialogues(tmp_path / name))


def test_a_file_of_another_kind_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl"
    path.write_text('{"text": "x"}\n' * 5000 + json.dumps(GOOD))
    with pytest.raises(DataError, match="none of 1,000 records"):
        next(read_dialogues(path))


@pytest.mark.parametrize("form", ["pretty", "bom", "crlf", "gz", "one line", "spaces"])
def test_files_as_editors_write_them(tmp_path: Path, form: str) -> None:
    path = tmp_path / "data.jsonl"
    if form == "pretty":
        path = tmp_path / "data.json"
        path.write_text(json.dumps(GOOD, indent=2))
    elif form == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + LINE + b"\n")
    elif form == "crlf":
        path.write_bytes(LINE + b"\r\n\r\n")
    elif form == "gz":
        path = tmp_path / "data.jsonl.gz"
        path.write_bytes(gzip.compress(LINE + b"\n", mtime=0))
    elif form == "one line":
        path = tmp_path / "data.json"
        path.write_bytes(LINE)
    else:
        path.write_bytes(b"  " + LINE + b"  \n")
    (dialogue,) = read_dialogues(path)
    assert dialogue.messages[0].text == "q" and dialogue.place == "record 1"
