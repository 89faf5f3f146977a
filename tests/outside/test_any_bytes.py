"""Bytes that are not in the encoding of a pipe, and characters that a console does not have, end no command."""

import io
import json
import logging
import os
import subprocess
import sys

import pytest

from qianwen.cli import main
from qianwen.runtime.files import json_text
from qianwen.runtime.streams import accept_any_bytes

from ..cli.conftest import model_folder

__all__ = ["model_folder"]
CHINESE = "你好，世界 é 😀\n"
# What comes through a pipe on one system, read with the encoding of another.
PIPES = [
    (CHINESE[:5].encode("gbk"), "utf-8"),
    ("déjà vu — naïve\n".encode("latin-1", "replace"), "utf-8"),
    ("日本語\n".encode("shift_jis"), "utf-8"),
    ("текст\n".encode("koi8_r"), "utf-8"),
    ("안녕\n".encode("euc_kr"), "utf-8"),
    (CHINESE.encode("utf-16"), "utf-8"),
    (CHINESE.encode(), "ascii"),
    (CHINESE.encode(), "gbk"),
    (CHINESE.encode(), "cp932"),
    (bytes(range(128, 256)), "utf-8"),
    (b"\xf0\x9f\x98", "utf-8"),
    (b"\xef\xbb\xbfhello\n", "utf-8"),
    (b"a\0b\n", "cp1252"),
]
CONSOLES = ["ascii", "cp1252", "gbk", "latin-1", "cp437", "shift_jis", "koi8_r", "utf-8"]


class Streams:
    """Standard streams over bytes, strict as Python opens them."""

    def __init__(self, monkeypatch, data: bytes = b"", encoding: str = "utf-8", console: str = "utf-8") -> None:
        self.written = io.BytesIO()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding=encoding))
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(self.written, encoding=console, write_through=True))
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(self.written, encoding=console, write_through=True))


@pytest.mark.parametrize(("data", "encoding"), PIPES)
@pytest.mark.parametrize("options", [[], ["--lines"]])
def test_a_chat_answers_whatever_a_pipe_holds(model_folder, monkeypatch, data, encoding, options):
    streams = Streams(monkeypatch, data, encoding)
    assert main(["chat", str(model_folder), "--max-tokens", "3", "--seed", "1", *options]) == 0
    assert streams.written.getvalue().endswith(b"\n")


@pytest.mark.parametrize("console", CONSOLES)
def test_answers_are_printed_on_every_console(model_folder, monkeypatch, console):
    streams = Streams(monkeypatch, console=console)
    command = ["generate", str(model_folder), "--prompt", CHINESE, "--max-tokens", "40", "--seed", "3"]
    assert main(command) == 0
    assert streams.written.getvalue().decode(console)


@pytest.mark.parametrize("console", CONSOLES)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_help_and_errors_are_printed_on_every_console(monkeypatch, console, language):
    monkeypatch.setenv("QIANWEN_LANG", language)
    streams = Streams(monkeypatch, console=console)
    assert main(["--help"]) == 0
    assert main(["serwe"]) == 2
    assert main(["generate", "没有这个模型", "--prompt", "x"]) == 1
    text = streams.written.getvalue().decode(console)
    assert "serve" in text and "Traceback" not in text and "internal error" not in text


@pytest.mark.parametrize("console", CONSOLES)
def test_logs_are_written_on_every_console(monkeypatch, console):
    streams = Streams(monkeypatch, console=console)
    accept_any_bytes()
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    handler.emit(logging.makeLogRecord({"msg": CHINESE}))
    assert b"Error" not in streams.written.getvalue()


@pytest.mark.parametrize("argument", ["\udcff", "caf\udce9", "\udcc4\udce3", "\ud83d", "ok\udc00"])
def test_an_argument_that_is_not_text_is_answered(model_folder, monkeypatch, argument):
    streams = Streams(monkeypatch)
    assert main(["generate", str(model_folder), "--prompt", argument, "--max-tokens", "2", "--seed", "1"]) == 0
    assert main(["generate", argument, "--prompt", "x"]) == 1
    assert b"internal error" not in streams.written.getvalue()


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", {"k\ud83d": ["\ude00"]}, ["é\udc80"]])
def test_half_a_pair_is_written_as_json(text):
    assert json.loads(json_text(text).encode("utf-8")) == text
    assert "é" in json_text("é")


def test_a_system_without_an_encoding(tmp_path):
    """As a person starts it: LANG=C and an ASCII console, bytes from a pipe."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    environment |= {"LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "QIANWEN_LANG": "zh"}
    code = "import sys; from qianwen.cli import main; print(sys.stdin.read()); sys.exit(main(['--help']))"
    code = code.replace("print(", "from qianwen.runtime.streams import accept_any_bytes; accept_any_bytes(); print(")
    done = subprocess.run([sys.executable, "-c", code], input=b"\xff\xfe caf\xe9", capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"caf?" in done.stdout and b"Traceback" not in done.stderr
