"""Questions of several lines, commands with odd arguments, Markdown, and models that cannot chat."""

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from rich.console import Console

from qianwen.cli import main
from qianwen.cli.chat_terminal import join_quoted, markdown_writer, split_blocks

from ..cli.conftest import model_folder, tiny
from ..cli.test_chat import Session

__all__ = ["model_folder", "tiny"]
POEM = "Roses are red,\n\n    violets are blue.\n/exit is not a command here"


def quoted(lines: str) -> str:
    iterator = iter(lines.split("\n"))

    def read(_: bool) -> str:
        try:
            return next(iterator)
        except StopIteration:
            raise EOFError from None

    return join_quoted(read)


@pytest.mark.parametrize(
    ("lines", "question"),
    [
        ("one line", "one line"), ('"""\na\nb\n"""', "a\nb"), ('"""a\nb"""', "a\nb"), ('"""a"""', "a"),
        ('  """\n  a\n\n  b\n"""\nlater', "  a\n\n  b"), ('"""\nnever closed\n', "never closed"),
        ('say """ aloud', 'say """ aloud'), ('"""\n/exit\n"""', "/exit"),
    ],
)  # fmt: skip
def test_three_quotes_hold_several_lines(lines, question):
    assert quoted(lines) == question


@pytest.mark.parametrize("text", [POEM, "one", "a\r\nb\r\n", "\n\nlate", 'with """quotes""" inside', "x\n" * 50])
def test_a_pipe_is_one_question(model_folder, monkeypatch, text):
    questions = []
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
    monkeypatch.setattr("qianwen.cli.chat.ChatSession.ask", lambda self, question: questions.append(question))
    assert main(["chat", str(model_folder)]) == 0
    assert questions == [text.replace("\r\n", "\n").rstrip("\n")]


def test_an_empty_pipe_is_an_error(model_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("  \n"))
    assert main(["chat", str(model_folder)]) == 1
    assert "pipe has no text" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    "typed", [b"one\ntwo\nthree\n", b"\x1b[200~one\ntwo\nthree\x1b[201~\r", b'"""one\ntwo\nthree"""\n']
)
def test_pasted_lines_are_one_question(typed):
    """A process on a pseudo-terminal that prints the questions it reads."""
    code = (
        "from qianwen.cli.chat_terminal import typed_questions\n"
        "for question in typed_questions(): print(ascii(question))"
    )
    terminal, end = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=end, stdout=end, stderr=end)
    os.close(end)
    seen = b""
    try:
        seen += read_until(terminal, b"> ")
        os.write(terminal, typed)
        seen += read_until(terminal, b"'\r\n")
    finally:
        child.kill()
        child.wait()
        os.close(terminal)
    assert b"'one\\ntwo\\nthree'" in seen


def read_until(terminal: int, mark: bytes) -> bytes:
    data, deadline = b"", time.monotonic() + 30
    while mark not in data and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            data += os.read(terminal, 4096)
    return data


@pytest.mark.parametrize(
    "line",
    [
        "/sampling 'open quote", '/sampling "', "/sampling =", "/sampling x", "/sampling n=3", "/sampling grammar=1",
        "/sampling self=1", "/sampling messages=[]", "/sampling stop=5", "/sampling top_k=1e999",
        "/sampling logit_bias=[]", '/sampling logit_bias={"x":1}', "/sampling temperature=NaN", "/sampling \\",
        "/sampling seed=" + "9" * 6000, "/seed x", "/seed 1.5", "/seed " + "9" * 6000,
        "/load", "/load .", "/load /nowhere/x", "/load ~nobody-here/x", "/load a\0b", "/load \udcff",
        "/load " + "x" * 5000,
        "/save", "/save /", "/save /nowhere/x/y", "/save ~nobody-here/x", "/save a\0b", "/save /dev/full",
        "/retry", "/system \ud800", "/unknown", "/", "/ /",
    ],
)  # fmt: skip
def test_no_command_ends_a_chat(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session()
    before = dict(session.sampling)
    answer = session.says(line)
    assert answer and "internal error" not in answer
    if line.startswith(("/sampling", "/seed")):
        assert session.sampling == before
    session.says("hello")
    assert [message.role for message in session.messages][-2:] == ["user", "assistant"]


SAVED = {"messages": [{"role": "user", "content": "a"}], "sampling": {}}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"5", b"null", b'"x"', b"{}", b"\xff\xfe", b"[" * 100_000, b'{"messages": 5, "sampling": {}}',
        b'{"messages": [5], "sampling": {}}', b'{"messages": "abc", "sampling": {}}',
        b'{"messages": [], "sampling": 5}',
        b'{"messages": [], "sampling": ["x"]}', b'{"messages": [], "sampling": {"top_p": 7}}',
        b'{"messages": [], "sampling": {"self": 7}}', b'{"messages": [], "sampling": {"n": 3}}', b'{"messages": [{}]}',
        b'{"messages": [{"role": "alien", "content": ""}], "sampling": {}}',
        b'{"messages": [{"role": "user", "content": [{"type": "text"}]}], "sampling": {}}',
        b'{"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": '
        b'{"data": "", "format": ""}}]}]'
        b', "sampling": {}}',
        b'{"messages": [{"role": "assistant", "content": "", "tool_calls": 5}], "sampling": {}}',
    ],
)  # fmt: skip
def test_a_file_that_holds_no_conversation_is_refused(tmp_path, content):
    session = Session()
    session.says("hello")
    before = list(session.messages)
    path = tmp_path / "talk.json"
    path.write_bytes(content)
    answer = session.says(f"/load {path}")
    assert "internal error" not in answer and "Loaded" not in answer and session.messages == before
    path.write_text(json.dumps(SAVED))
    assert "Loaded 1" in session.says(f"/load {path}")


def test_a_conversation_with_half_a_pair_is_saved_and_loaded(tmp_path):
    session = Session(system="\ud83d alone")
    session.says("x\udcff")
    session.says(f"/save {tmp_path / 'talk.json'}")
    kept, session.messages = session.messages, []
    session.says(f"/load {tmp_path / 'talk.json'}")
    assert session.messages == kept and len(kept) == 3


def test_an_error_of_this_program_does_not_end_the_chat(monkeypatch):
    session = Session()
    session.says("hello")
    before = list(session.messages)
    monkeypatch.setattr(session.llm, "chat", lambda *_, **__: 1 / 0)
    assert "internal error (ZeroDivisionError in " in session.says("again")
    assert session.messages == before


MARKDOWN = """# Title

Some **bold** text.

1. first

   ```python
   x = 1

   y = 2
   ```

2. second

```sh
echo "a

b"
```

| a | b |
|---|---|
| 1 | 2 |

The end [here](http://evil.example)."""


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_markdown_is_shown_the_same_however_it_streams(size):
    screen = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None, legacy_windows=False)
    with markdown_writer(screen) as write:
        for start in range(0, len(MARKDOWN), size):
            write(MARKDOWN[start : start + size])
    shown = final_screen(screen.file.getvalue())
    assert "**" not in shown and "```" not in shown and "Title" in shown and "y = 2" in shown
    assert "http://evil.example" in shown and "\x1b]8" not in screen.file.getvalue()
    assert shown.count("second") == 1 and shown.count("bold") == 1


def final_screen(output: str) -> str:
    """The lines that stay on a terminal after the cursor movements of `rich.live`."""
    lines: list[str] = [""]
    row = 0
    for token in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token.endswith("A") and token.startswith("\x1b"):
            row -= int(token[2:-1] or 1)
        elif token == "\x1b[2K":
            lines[row] = ""
        elif not token.startswith("\x1b") and token != "\r":
            lines[row] += token
    return "\n".join(line.rstrip() for line in lines)


def test_a_block_is_printed_once_it_is_complete():
    assert split_blocks("a\n\nb") == (["a\n\n"], "b")
    assert split_blocks("a\n\n") == ([], "a\n\n")
    assert split_blocks("- a\n\n  b\n\nc") == (["- a\n\n  b\n\n"], "c")
    assert split_blocks("```\na\n\nb\n```\n\nc") == (["```\na\n\nb\n```\n\n"], "c")
    assert split_blocks("~~~~\n```\n\nx") == ([], "~~~~\n```\n\nx")


@pytest.mark.parametrize("text", ["\x1b[31mred", "bell\a", "\x1b]0;title\x07x", "\x9b2J", "a\rb", "\0"])
@pytest.mark.parametrize("with_markdown", [False, True])
def test_a_models_text_does_not_control_the_terminal(text, with_markdown, capsys):
    from qianwen.cli.chat_terminal import write_plain

    screen = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    if with_markdown:
        with markdown_writer(screen) as write:
            write(text)
        written = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r\n|\r(?=\x1b)", "", screen.file.getvalue())
    else:
        write_plain(text)
        written = capsys.readouterr().out
    assert not set(written) & set("\x1b\a\x9b\0")


def test_a_pretrained_model_says_what_it_is(tmp_path, monkeypatch, capsys):
    from qianwen.checkpoints.hf_folder import write_folder

    write_folder(*tiny(), tmp_path / "base", chat=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello"))
    assert main(["chat", str(tmp_path / "base"), "--max-tokens", "2"]) == 0
    assert "base is a pretrained model: it continues text" in capsys.readouterr().err


def test_a_chat_model_does_not(model_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello"))
    assert main(["chat", str(model_folder), "--max-tokens", "2"]) == 0
    assert "pretrained" not in capsys.readouterr().err
