"""A program gets no more memory, time, disk or output than its limits."""

import dataclasses

import pytest

from qianwen.runtime.errors import ConfigError
from qianwen.sandbox.process import Limits

SMALL = Limits(cpu_seconds=0.7, wall_seconds=1.5, memory_bytes=128 << 20, file_bytes=4 << 20, folder_bytes=8 << 20)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1 << 63])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_a_limit_is_a_positive_number(name, value):
    with pytest.raises(ConfigError, match=f"limit {name} must be a positive number"):
        Limits(**{name: value})


MEMORY = {
    "bytes": "bytearray(1 << 30)",
    "bytes that are written": "b'x' * (1 << 30)",
    "a growing list": "x = [0]\nwhile True: x += x",
    "a growing text": "x = 'x'\nwhile True: x += x",
    "a mapping": "import mmap; mmap.mmap(-1, 1 << 30)",
    "many mappings": "import mmap\nx = [mmap.mmap(-1, 1 << 20) for _ in range(1000)]",
    "a large number": "10 ** 10 ** 10",
    "a zip bomb": (
        "import io, zipfile, zlib\n"
        "data = zlib.compress(bytes(16 << 20), 1)\n"
        "parts = [zlib.decompress(data) for _ in range(20)]"
    ),
}


@pytest.mark.parametrize("program", MEMORY.values(), ids=MEMORY)
def test_memory_ends_at_its_limit(contain, program):
    assert contain(program, SMALL).status in ("memory", "timeout", "error")  # error: a refused mapping is an OSError


def test_memory_is_that_of_all_processes(contain):
    program = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        data = b"x" * (48 << 20)
        time.sleep(60)
time.sleep(60)
"""
    assert contain(program, SMALL).status == "memory"


def test_processor_time_is_that_of_all_processes(contain):
    program = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    outcome = contain(program, dataclasses.replace(SMALL, cpu_seconds=0.5, wall_seconds=5))
    assert outcome.status == "timeout" and outcome.wall_seconds < 3
    assert 0.4 < outcome.cpu_seconds < 1.0


TIME = {
    "a loop": "while True: pass",
    "a loop in C": "sum(range(10 ** 12))",
    "a regular expression": "import re; re.match('(a+)+$', 'a' * 50 + 'b')",
    "a loop in a child": "import os\npid = os.fork()\nwhile pid == 0: pass\nos.wait()",
    "a loop that catches everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
}


@pytest.mark.parametrize("program", TIME.values(), ids=TIME)
def test_processor_time_ends_at_its_limit(contain, program):
    assert contain(program, dataclasses.replace(SMALL, cpu_seconds=0.3)).status == "timeout"


OUTPUT = {
    "without a line break": "while True: print('x' * 65536, end='')",
    "on the error stream": "import sys\nwhile True: sys.stderr.write('x' * 65536)",
    "on both": "import sys\nwhile True: print('x' * 999); print('x' * 999, file=sys.stderr)",
    "from a child": "import os\nos.fork()\nwhile True: os.write(1, b'x' * 65536)",
    "as a huge repr": "print([0] * 2_000_000)",
    "in a closed and reopened pipe": "import os\nf = os.dup(1); os.close(1)\nwhile True: os.write(f, b'x' * 65536)",
}


@pytest.mark.parametrize("program", OUTPUT.values(), ids=OUTPUT)
def test_output_ends_at_its_limit(contain, program):
    outcome = contain(program, dataclasses.replace(SMALL, output_bytes=100_000))
    assert outcome.status == "output"
    assert len(outcome.stdout) + len(outcome.stderr) == 100_000


# Each prints how far it came.
DISK = {
    "one large file": "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20)); print('MB', flush=True)",
    "many files": "for n in range(1000): open(str(n), 'wb').write(bytes(1 << 20)); print('MB', flush=True)",
    "a sparse file": "f = open('x', 'wb'); f.truncate(1 << 40); print('MB ' * 100)",
    "a byte far beyond the end": "f = open('x', 'wb', 0); f.seek(1 << 40); f.write(b'x'); print('MB ' * 100)",
    "space that is reserved": "import os; os.posix_fallocate(os.open('x', 66), 0, 1 << 40); print('MB ' * 100)",
    "a file that is removed and open": (
        "import os\nf = open('x', 'wb'); os.remove('x')\nwhile True: f.write(bytes(1 << 20)); print('MB', flush=True)"
    ),
}


@pytest.mark.parametrize("program", DISK.values(), ids=DISK)
def test_files_end_at_their_limit(contain, program):
    assert contain(program, SMALL).stdout.count("MB") < 64


def test_millions_of_folder_entries_end_at_their_limit(contain):
    limits = dataclasses.replace(SMALL, folder_entries=500)
    outcome = contain("import os\nfor n in range(10 ** 6):\n    os.mkdir(f'{n:x}')\n    print(n, flush=True)", limits)
    assert outcome.status in ("error", "killed") and 100 < outcome.stdout.count("\n") < 50_000


def test_open_files_end_at_their_limit(contain):
    outcome = contain("x = []\nwhile True:\n    x.append(open('/dev/null'))\n    print(len(x))", SMALL)
    assert outcome.status == "error" and outcome.stdout.count("\n") < 300


ODD = {
    "deep recursion": ("def f(): f()\nf()", "error"),
    "a segmentation fault": ("import ctypes; ctypes.string_at(0)", "killed"),
    "an abort": ("import os; os.abort()", "killed"),
    "an exit status": ("raise SystemExit(7)", "error"),
    "an exit without cleaning": ("import os; os._exit(0)", "ok"),
    "a closed output": ("import os; os.close(1); os.close(2)", "ok"),
    "ten lines of input that are ignored": ("pass", "ok"),
}


@pytest.mark.parametrize(("program", "status"), ODD.values(), ids=ODD)
def test_an_odd_end_has_its_status(contain, program, status):
    outcome = contain(program, SMALL)
    assert outcome.status == status, outcome


@pytest.mark.parametrize(
    "written", [b"\xff\xfe\x00", b"\xed\xa0\x80", b"\xf0\x9f", b"\x1b]0;title\x07\x1b[2J", b"\r\x08\x9b"]
)
def test_bytes_that_are_no_text_come_back_as_text(contain, written):
    outcome = contain(f"import os; os.write(1, {written!r}); os.write(2, {written!r})", SMALL)
    assert outcome.status == "ok"
    assert outcome.stdout == outcome.stderr == written.decode("utf-8", "replace")
