"""A cell's messages become a result, whatever types a hostile kernel sends."""

import random

import pytest

from qianwen.sandbox.cell import MAX_TRACEBACK, Cell, clean, shortened
from qianwen.sandbox.kernel_files import MAX_FILES, PNG, KernelFiles
from qianwen.sandbox.kernel_messages import Message


@pytest.fixture
def cell(tmp_path):
    return Cell("1", KernelFiles(tmp_path, 1 << 20), 100)


def send(cell, kind, content, buffer=b"", request="1"):
    cell.take(Message(kind, request, content, buffer))


def test_outputs_are_collected_by_kind(cell):
    send(cell, "stream", {"name": "stdout", "text": "a"})
    send(cell, "stream", {"name": "stdout", "text": "b\n"})
    send(cell, "stream", {"name": "stderr", "text": "w"})
    send(cell, "execute_result", {"data": {"text/plain": "42", "text/html": "<b>"}})
    send(cell, "error", {"ename": "E", "evalue": "v", "traceback": ["\x1b[31mE: v\x1b[0m"]})
    send(cell, "file", {"name": "a.txt", "size": 2}, b"hi")
    send(cell, "figure", {}, PNG)
    send(cell, "execute_reply", {"status": "ok"})
    assert not cell.is_done
    send(cell, "status", {"execution_state": "idle"})
    assert cell.is_done
    result = cell.result("error", 1.0)
    assert (result.stdout, result.stderr, result.result) == ("ab", "w", "42")
    assert result.error and (result.error.name, result.error.value, result.error.traceback) == ("E", "v", "E: v")
    assert [path.name for path in (*result.files, *result.figures)] == ["a.txt", "fig-001.png"]


def test_messages_about_another_request_say_nothing(cell):
    send(cell, "stream", {"name": "stdout", "text": "a"}, request="0")
    send(cell, "status", {"execution_state": "idle"}, request="")
    assert cell.texts["stdout"] == "" and not cell.is_idle


def test_text_is_cut_at_the_limit(cell):
    send(cell, "stream", {"name": "stdout", "text": "六" * 20})
    assert not cell.is_cut
    send(cell, "stream", {"name": "stderr", "text": "x" * 41})
    assert cell.is_cut and cell.texts == {"stdout": "六" * 20, "stderr": "x" * 40, "result": ""}
    send(cell, "stream", {"name": "stdout", "text": "x"})
    assert len(cell.texts["stdout"]) == 20


def test_files_that_are_too_many_or_not_whole_are_noted(cell):
    for number in range(MAX_FILES + 3):
        send(cell, "file", {"name": f"{number}.txt", "size": 1}, b"x")
    assert len(cell.files) == MAX_FILES and len(cell.notes) == 1 and "at most" in cell.notes[0]
    cell.files.clear()
    send(cell, "file", {"name": "large.bin", "size": 10**9})
    assert not cell.files and "too large (1000000000 bytes)" in cell.notes[1]


VALUES = [None, True, 7, -1, 1e300, "", "text", b"x", [], [[]], {}, {"text/plain": 7}, {"text/plain": "x"}, ["\x1b"]]
KINDS = ["stream", "execute_result", "display_data", "error", "figure", "file", "status", "execute_reply", "nothing"]
FIELDS = ["name", "text", "data", "ename", "evalue", "traceback", "size", "execution_state", "status"]


def test_no_type_raises(cell):
    draw = random.Random(0)
    for _ in range(3000):
        content = {draw.choice(FIELDS): draw.choice(VALUES) for _ in range(4)}
        send(cell, draw.choice(KINDS), content, draw.choice([b"", PNG, b"x" * 9]))
    result = cell.result("ok", 0.0)
    assert len((result.stdout + result.stderr + result.result).encode()) <= 100 and len(result.notes) <= MAX_FILES


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("\x1bP+q\x1b\\a\x1b(Bb", "ab"),
        ("10%\r50%\r100%\nend", "100%\nend"),
        ("a\r\nb", "a\nb"),
        ("tab\there", "tab\there"),
        ("a\x00\x07\x08\x7f\x9bb", "ab"),
        ("a\u202egnp.exe\u2066", "agnp.exe"),
        ("\x1b", ""),
        ("\x1b[" * 3, ""),
        ("普通 text ✓ 🙂", "普通 text ✓ 🙂"),
    ],
)
def test_texts_have_no_terminal_codes(text, plain):
    assert clean(text) == plain


def test_a_traceback_has_the_frames_of_cells():
    trace = (
        "Traceback (most recent call last):\n\n  Cell In[1], line 2\n    f()\n\n"
        "  File /usr/lib/python3.11/json/decoder.py:346 in loads\n    return x\n\n"
        "  File pandas/_libs/index.pyx:7 in get\n\n  File ~/mine.py:3 in g\n    h()\n\nKeyError: 'x'"
    )
    expected = "Traceback (most recent call last):\n  Cell In[1], line 2\n    f()\n"
    expected += "  File ~/mine.py:3 in g\n    h()\nKeyError: 'x'"
    assert shortened(trace) == expected
    assert shortened(f"{trace}\n\nDuring handling of the above exception, another occurred:\n\n{trace}") == expected


def test_a_long_traceback_keeps_its_start_and_end():
    trace = "\n".join(["Traceback (most recent call last):", *(f"  Cell In[1], line {n}" for n in range(90)), "E: v"])
    lines = shortened(trace).splitlines()
    assert len(lines) == MAX_TRACEBACK + 1 and lines[1].endswith("line 0") and lines[-1] == "E: v"
