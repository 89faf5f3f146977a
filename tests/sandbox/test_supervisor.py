"""Every process of a run ends with it, whatever the program does, also when we are killed; and none reaches ours."""

import os
import signal
import subprocess
import sys
import time

import pytest

from qianwen.sandbox.process import Limits
from qianwen.sandbox.supervisor import room_left

DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        %(ignore)s
        while True: time.sleep(0.01)
    os._exit(0)
time.sleep(0.1)
print("started", flush=True)
"""

FOREVER = {
    "a daemon": DAEMON % {"ignore": ""},
    "a daemon that closed its output": DAEMON % {"ignore": "os.closerange(0, 3)"},
    "a daemon that ignores signals": DAEMON % {"ignore": "import signal; [signal.signal(n, 1) for n in (1, 2, 15)]"},
    "a fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "a fork bomb that waits": "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(60)",
    "a fork bomb of shells": "import subprocess\nsubprocess.run(['bash', '-c', 'f() { f | f & }; f; wait'])",
    "children that replace each other": "import os\nwhile True:\n    if os.fork(): os._exit(0)",
    "a fork in __del__": "import os\nclass A:\n    def __del__(self):\n        A()\n        os.fork()\nA()",
    "ten thousand threads": (
        "import threading, time\n"
        "for number in range(10000):\n"
        "    try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "    except RuntimeError: print(number, flush=True); break"
    ),
    "signals that it ignores": "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nwhile True: pass",
    "SIGXCPU that it catches": "import signal\nsignal.signal(signal.SIGXCPU, lambda *_: None)\nwhile True: pass",
    "a sleep": "import time; time.sleep(1000)",
    "a stop": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "an input that never comes": "import os, select; r, w = os.pipe(); os.read(r, 1)",
}


@pytest.mark.parametrize("program", FOREVER.values(), ids=FOREVER)
def test_no_process_outlives_a_run(contain, program):
    contain(program, Limits(cpu_seconds=0.3, wall_seconds=0.5, processes=16))


SIGNALS = {
    "kill the parent": "os.kill(os.getppid(), signal.SIGKILL)",
    "stop the parent": "os.kill(os.getppid(), signal.SIGSTOP)",
    "kill us": "os.kill(%(ours)s, signal.SIGKILL)",
    "kill everything": "os.kill(-1, signal.SIGKILL)",
    "kill our group": "os.killpg(%(group)s, signal.SIGKILL)",
    "kill us by a descriptor": "signal.pidfd_send_signal(os.pidfd_open(%(ours)s), signal.SIGKILL)",
    "kill us as a thread": "import ctypes; ctypes.CDLL(None).syscall(200, %(ours)s, 9)",
    "send us input by the terminal": "import fcntl; fcntl.ioctl(os.open('/dev/tty', 2), 0x5412, b'x')",
}


@pytest.mark.parametrize("program", SIGNALS.values(), ids=SIGNALS)
def test_no_signal_gets_out(contain, program):
    bystander = subprocess.Popen(["sleep", "60"])
    program = f"import os, signal\ntry: {program}\nexcept OSError: print('refused')"
    contain(program, Limits(wall_seconds=1), ours=bystander.pid, group=os.getpgrp())
    assert bystander.poll() is None, "a process of ours was ended"
    bystander.kill()
    bystander.wait()


OWNER = """
import sys, threading
from qianwen.sandbox.process import Sandbox, Limits
sandbox = Sandbox("{backend}")
print("ready", flush=True)
program = "import os, time; os.fork(); os.setsid() if os.getpid() == 0 else None; time.sleep(60)"
argv = [sys.executable, "-I", "-B", "program.py", "{mark}"]
sandbox.run(argv, files={{"program.py": program.encode()}}, limits=Limits(wall_seconds=60))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_program_ends_when_we_are_killed(sandbox, survivors, tmp_path, number):
    mark = f"owned-{os.getpid()}-{tmp_path.name}"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(backend=sandbox.backend, mark=mark)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while len(survivors(mark)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    owner.send_signal(number)
    owner.communicate()
    deadline = time.monotonic() + 1
    while ((left := survivors(mark)) or list(tmp_path.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left and not list(tmp_path.iterdir())


def test_a_folder_is_measured_with_all_that_is_below(tmp_path):
    limits = {"folder_entries": 3, "folder_bytes": 100 << 10}
    config = {"backend": "landlock", "folder": str(tmp_path), "limits": limits}
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * (12 << 10))
    assert 0 < room_left(config) <= 88 << 10
    assert room_left(config | {"limits": limits | {"folder_entries": 2}}) == -1
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * (101 << 10))
    assert room_left(config) == -1
