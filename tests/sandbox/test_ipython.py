"""A kernel keeps its variables, works with files and figures, and keeps hostile cells inside."""

import dataclasses
import io
import threading
import time
from pathlib import Path
from typing import get_args

import numpy as np
import psutil
import pytest

pytest.importorskip("ipykernel")

from PIL import Image

from qianwen.runtime.errors import ConfigError
from qianwen.sandbox import ipython, isolation, kernel_process
from qianwen.sandbox.ipython import LIMITS, LOST, Kernel
from qianwen.sandbox.process import Sandbox
from qianwen.sandbox.running import Backend

SMALL = dataclasses.replace(LIMITS, memory_bytes=1 << 30, folder_bytes=32 << 20, output_bytes=20_000)
MAX_GROWTH = 20 << 20


@pytest.fixture(scope="module")
def kernel(sandbox, tmp_path_factory):
    with Kernel.open(sandbox, tmp_path_factory.mktemp("files"), SMALL) as kernel:
        yield kernel


@pytest.fixture
def folder(kernel) -> Path:
    return kernel._files.folder


@pytest.fixture
def a_short_time_to_stop(monkeypatch):
    monkeypatch.setattr(ipython, "STOP_SECONDS", 0.3)


@pytest.fixture
def fresh(kernel):
    """A kernel that starts anew, for a test that ends it."""
    kernel.close()
    kernel.run("")
    yield kernel
    kernel.run("")  # tells the loss


def test_variables_last_and_the_last_expression_is_the_result(kernel):
    assert kernel.run("x = 6 * 7").result == ""
    result = kernel.run("print('六'); x")
    assert (result.status, result.stdout, result.result, result.stderr) == ("ok", "六", "42", "")


def test_an_error_has_its_name_value_and_the_line_of_the_cell(kernel):
    result = kernel.run("def f():\n    raise ValueError('bad')\nf()")
    assert result.status == "error" and result.error
    assert (result.error.name, result.error.value) == ("ValueError", "bad")
    assert result.error.traceback.splitlines()[1:3] == ["  Cell In[1], line 3", "    f()"]
    assert kernel.run("1").status == "ok"


def test_code_that_is_not_python_is_an_error_of_the_cell(kernel):
    assert kernel.run("def").error.name == "SyntaxError"
    assert kernel.run("\ud800").status in ("ok", "error")
    assert kernel.run("input()").error.name.startswith("StdinNot")
    assert kernel.run("await __import__('asyncio').sleep(0, 7)").result == "7"


def test_output_of_children_is_captured(kernel):
    result = kernel.run("import os, sys; os.system('echo out; echo err >&2'); print('a', file=sys.stderr)")
    assert result.stdout == "out" and sorted(result.stderr.replace("\n", "")) == list("aerr")


def test_files_go_in_and_come_back(kernel, folder):
    (folder / "in").mkdir()
    (folder / "in" / "数据.csv").write_text("a,b\n1,2\n")
    code = "import pandas\nd = pandas.read_csv('in/数据.csv'); d['c'] = d.a + d.b\n"
    code += "d.to_csv('out.csv', index=False); d.c[0]"
    result = kernel.run(code, 60)
    assert (result.status, result.result, result.files) == ("ok", "np.int64(3)", (folder / "out.csv",))
    assert (folder / "out.csv").read_text() == "a,b,c\n1,2,3\n"
    assert not kernel.run("open('out.csv').read()").files
    (folder / "in" / "数据.csv").write_text("new")
    assert kernel.run("print(open('in/数据.csv').read())").stdout == "new"
    kernel.run("open('in/数据.csv', 'w').write('theirs')")
    assert (folder / "in" / "数据.csv").read_text() == "new"


# Each leaves something that must not come back, or not as what it seems.
LEFT = {
    "a link": "os.symlink('/etc/passwd', 'a')",
    "a link to a file of its own": "open('b', 'w').write('x'); os.symlink('b', 'a')",
    "a FIFO": "os.mkfifo('a')",
    "a folder as a link": "os.symlink('/usr', 'a')",
    "a large file": "open('a', 'wb').truncate(9 << 20)",
    "a name with codes": "open('a\\x1b[2J', 'w').write('x')",
    "a name that is no text": "open(b'\\xff', 'w').write('x')",
    "a hidden file": "open('.a', 'w').write('x')",
}


@pytest.mark.parametrize("program", LEFT.values(), ids=LEFT)
def test_only_plain_files_come_back(kernel, folder, program):
    before = {path for path in folder.rglob("*")}
    result = kernel.run(f"import os\n{program}")
    names = {path.name for path in result.files}
    assert names <= {"b"} and {path for path in folder.rglob("*")} - before <= {folder / "b"}
    kernel.run(
        "import shutil\n[os.remove(n) for n in os.listdir(b'.') if n[:1] in b'ab\\xff' and not os.path.isdir(n)]"
    )
    (folder / "b").unlink(missing_ok=True)


def test_a_file_that_becomes_a_link_again_and_again_never_leads_outside(kernel, folder):
    code = (
        "import os, threading\ndef swap():\n    for _ in range(3000):\n"
        "        try: os.symlink('/etc/hostname', 'r'); os.remove('r'); open('r', 'w').write('x'); os.remove('r')\n"
        "        except OSError: pass\n"
        "t = [threading.Thread(target=swap) for _ in range(2)]; [each.start() for each in t]"
    )
    kernel.run(code)
    for _ in range(5):
        for path in kernel.run("1").files:
            assert path.parent == folder and not path.is_symlink() and path.read_bytes() in (b"", b"x")
    kernel.run("[each.join() for each in t]")


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_figures_come_back_as_png(kernel, folder):
    code = "import matplotlib.pyplot as plt\nfor n in range(2): plt.figure(); plt.plot([n, -1])\nplt.show()"
    result = kernel.run(code, 60)
    assert (result.status, result.result, result.stderr) == ("ok", "", "")
    assert [path.name for path in result.figures] == ["fig-001.png", "fig-002.png"]
    assert size(result.figures[0])[0] > 300
    assert kernel.run("fig, _ = plt.subplots(); plt.close(); fig").figures[0].name == "fig-003.png"


DRAW = """
import io, matplotlib.pyplot as plt
%s
fig, axes = plt.subplots(figsize=(3, 1)); axes.axis('off'); axes.text(0.1, 0.4, %r, fontsize=30); plt.show()
"""
BOX = "\ufff0"  # no font has a shape for it, so a box is drawn


@pytest.mark.parametrize(
    "setting", ["", "plt.rcParams['font.sans-serif'] = ['SimHei']", "plt.rcParams['font.family'] = 'SimSun'"]
)
def test_chinese_is_drawn_and_no_box(kernel, setting):
    """Different characters have different shapes; those that a font lacks are all the same box."""

    def pixels(text: str) -> np.ndarray:
        result = kernel.run(DRAW % (setting, text), 60)
        assert result.status == "ok" and not result.stderr
        return np.asarray(Image.open(io.BytesIO(result.figures[0].read_bytes())).convert("L"), dtype=float)

    if kernel._process is None or not kernel_process.fonts.has_chinese():
        pytest.skip("no font with Chinese is installed")
    first, second, box = pixels("月销"), pixels("中国"), pixels(BOX * 2)
    assert first.shape == second.shape
    assert np.abs(first - second).sum() > 10_000 and np.abs(first - box).sum() > 10_000
    kernel.run("plt.rcdefaults()")


def test_a_cell_that_runs_too_long_is_interrupted_and_the_state_is_kept(kernel):
    kernel.run("x = 7")
    result = kernel.run("import time\nwhile True: time.sleep(0.01)", 0.2)
    assert result.status == "timeout" and result.error.name == "KeyboardInterrupt" and result.wall_seconds < 2
    assert "interrupted: 0.2 s passed" in result.notes[0]
    assert kernel.run("x").result == "7"


def test_children_are_interrupted_too(kernel):
    assert kernel.run("import os; os.system('sleep 60')", 0.2).status == "timeout"
    assert kernel.run("x").status == "ok"


STUBBORN = {
    "ignores signals": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    "computes in C": "sum(range(10 ** 12))",
    "stops itself": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
}


@pytest.mark.usefixtures("a_short_time_to_stop")
@pytest.mark.parametrize("program", STUBBORN.values(), ids=STUBBORN)
def test_a_cell_that_does_not_stop_ends_the_kernel_and_the_next_cell_says_so(fresh, program):
    result = fresh.run(program, 0.2)
    assert result.status == "timeout" and result.notes[-1] == "The cell did not stop, so the interpreter was ended."
    result = fresh.run("x")
    assert result.notes == (LOST,) and result.error.name == "NameError"
    assert not fresh.run("1").notes


def test_long_output_is_cut(kernel):
    result = kernel.run("print('y' * 1_000_000)")
    assert (result.status, len(result.stdout)) == ("output", SMALL.output_bytes)
    result = kernel.run("while True: print('x' * 1000)")
    assert result.status == "output" and "interrupted" in result.notes[0] and result.wall_seconds < 5
    result = kernel.run("'z' * 1_000_000")
    assert (result.status, len(result.result)) == ("output", SMALL.output_bytes)
    assert kernel.run("import os\nwhile True: os.write(1, b'\\xff' * 1000)").status == "output"
    assert kernel.run("print('\\x1b[31mred')").stdout == "red"


def test_none_of_the_ways_out_is_open(kernel, ways_out):
    code = f"for attempt in {list(ways_out.values())!r}:\n    try: exec(attempt, {{}})\n    except Exception: pass\n"
    code += "print('tried')"
    result = kernel.run(code)
    assert result.stdout == "tried", result


# What a hostile kernel can send. It is the same in every back-end.
SESSION = "k = get_ipython().kernel; s, p = k.session, k.get_parent()\n"
RAW = "import os, stat\nsockets = [n for n in range(3, 256) if os.path.exists(f'/proc/self/fd/{n}')]\n"
SENT = {
    "an answer that never ends": SESSION
    + "while True: s.send(k.iopub_socket, 'stream', {'name': 'stdout', 'text': 'x' * 9000}, p)",
    "a message without an end": (
        SESSION
        + "q = k.iopub_thread.socket\nwhile True:\n    try: q.send(b'x' * (1 << 20), 2)\n    except Exception: break"
    ),
    "messages of many megabytes": SESSION
    + "while True: s.send(k.iopub_socket, 'file', {'name': 'a', 'size': 1}, p, buffers=[bytes(32 << 20)])",
    "files without an end": (
        SESSION
        + "for n in range(500): s.send(k.iopub_socket, 'file', {'name': f'f{n}', 'size': 1 << 18}, p, buffers=[bytes(1 << 18)])"  # noqa: E501
    ),
    "messages between cells, without an end": SESSION
    + "import threading\n"
    + "def flood():\n"
    + "    while True: s.send(k.iopub_socket, 'stream', {'name': 'stdout', 'text': 'x' * 30000}, p)\n"
    + "threading.Thread(target=flood, daemon=True).start()",
    "JSON that is deep": SESSION
    + "k.iopub_socket.send_multipart([b'', b'<IDS|MSG>', b'', b'[' * 9999, b'{}', b'{}', b'{}'])",
    "wrong types": (
        SESSION + "for c in ([], 7, None, {'name': [], 'text': {}}, {'data': 7}, {'traceback': {}, 'ename': []}):\n"
        "    for kind in ('stream', 'error', 'execute_result', 'file', 'figure', 'status', 7, None):\n"
        "        try: s.send(k.iopub_socket, kind, c, p)\n        except Exception: pass"
    ),
    "names that lead outside": (
        SESSION + "for n in ('/tmp/x', '../x', 'a/../../x', '', '.', 'x\\0', '.bashrc', 'c' * 5000):\n"
        "    s.send(k.iopub_socket, 'file', {'name': n, 'size': 1}, p, buffers=[b'x'])"
    ),
    "figures that are none": SESSION + "s.send(k.iopub_socket, 'figure', {}, p, buffers=[b'<svg onload=alert(1)>'])",
    "a false end": SESSION + "s.send(k.iopub_socket, 'status', {'execution_state': 'idle'}, p)\nwhile True: pass",
    "bytes that are no protocol": RAW
    + "for n in sockets:\n    try: os.write(n, os.urandom(4096))\n    except OSError: pass",
    "closed channels": RAW + "[os.close(n) for n in sockets]",
    "its own kernel changed": "import builtins, os\nos.walk = builtins.open = os.scandir = lambda *_: iter(int, 1)",
}
# What its cells can do to the kernel and the machine.
DONE = {
    "no kernel any more": "import os; os._exit(0)",
    "a kernel that is replaced": "import os; os.execv('/bin/sleep', ['sleep', '60'])",
    "a crash": "import ctypes; ctypes.string_at(0)",
    "much memory": "x = [bytes(1 << 20) for _ in range(5000)]",
    "memory of children": (
        "import os\nfor _ in range(20):\n    if os.fork() == 0:\n"
        "        x = b'x' * (200 << 20)\n        while True: pass"
    ),
    "a fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "daemons": "import os, time\nfor _ in range(5):\n    if os.fork() == 0: os.setsid(); time.sleep(1000)",
    "threads": (
        "import threading, time\n"
        "[threading.Thread(target=time.sleep, args=(99,), daemon=True).start() for _ in range(10000)]"
    ),
    "a full disk": "f = open('a.bin', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    "many files": "import os\nfor n in range(10 ** 6): open(f'{n}.txt', 'w')",
    "no more memory for anything": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1, 1))",
}


def contain_cell(kernel: Kernel, program: str) -> None:
    folder = kernel._files.folder
    kernel.run("")  # the first kernel of a process loads matplotlib's fonts into ours
    us, before = psutil.Process(), psutil.Process().memory_info().rss
    children, start = us.children(recursive=True), time.monotonic()
    result = kernel.run(program, 0.4)
    assert time.monotonic() - start <= 0.4 + ipython.STOP_SECONDS + 10  # it ends, also on a busy machine
    assert len((result.stdout + result.stderr + result.result).encode()) <= 2 * SMALL.output_bytes
    assert us.memory_info().rss - before <= MAX_GROWTH
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= SMALL.folder_bytes + (8 << 20)
    assert {path.parent for path in folder.iterdir()} <= {folder} and not (folder.parent / "x").exists()
    assert "next" in (kernel.run("print('next')", 0.4).stdout, kernel.run("print('next')").stdout)
    kernel.close()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


@pytest.fixture(scope="module")
def any_kernel(tmp_path_factory):
    works = [backend for backend in get_args(Backend) if not isolation.refusal(backend)]
    with Kernel.open(Sandbox(works[0]), tmp_path_factory.mktemp("files"), SMALL) as kernel:
        yield kernel


@pytest.mark.usefixtures("a_short_time_to_stop")
@pytest.mark.parametrize("program", SENT.values(), ids=SENT)
def test_hostile_messages_are_contained(any_kernel, program):
    contain_cell(any_kernel, program)


@pytest.mark.usefixtures("a_short_time_to_stop")
@pytest.mark.parametrize("program", DONE.values(), ids=DONE)
def test_hostile_cells_are_contained(kernel, program):
    contain_cell(kernel, program)


def test_a_kernel_outlives_the_thread_that_used_it_first(fresh):
    thread = threading.Thread(target=fresh.run, args=("x = 5",))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert fresh.run("x").result == "5"


def test_what_a_kernel_uses_up_is_said(sandbox, tmp_path):
    limits = dataclasses.replace(SMALL, cpu_seconds=1)
    with Kernel.open(sandbox, tmp_path, limits) as kernel:
        result = kernel.run("while True: pass", 20)
        assert result.status == "timeout"
        assert "processor time of the conversation is used up" in result.notes[0]
        assert kernel.run("1").notes == (LOST,)


def test_without_the_package_the_error_names_it(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(ipython.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package ipykernel: pip install 'qianwen\\[agents\\]'"):
        Kernel.open(sandbox, tmp_path)
