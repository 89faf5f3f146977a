"""More ways out (the other tests of this chapter have the first ones), tried in every back-end."""

import dataclasses
import os
import platform
import tempfile

import pytest

from qianwen.sandbox.process import Limits

SMALL = Limits(cpu_seconds=1, wall_seconds=2, memory_bytes=128 << 20, file_bytes=4 << 20, folder_bytes=8 << 20)


def test_none_of_these_ways_is_open(contain, ways_out):
    escaped = [line for line in contain(ways_out).stdout.splitlines() if line.endswith("got through")]
    assert not escaped


# Each uses up something. `contain` checks that the run ends in time and leaves no process.
BOMBS = {
    "inotify": "import ctypes\nlibc = ctypes.CDLL(None)\nwhile True:\n    assert libc.inotify_init() >= 0",
    "watches": (
        "import ctypes, os\nlibc = ctypes.CDLL(None); f = libc.inotify_init()\nfor n in range(10 ** 6):\n"
        "    os.mkdir(str(n)); assert libc.inotify_add_watch(f, str(n).encode(), 0xfff) >= 0"
    ),
    "epoll": "import select\nx = []\nwhile True: x.append(select.epoll())",
    "counters": "import os\nwhile True: os.eventfd(0)",
    "large pipes": (
        "import fcntl, os\nwhile True:\n    r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 20); "
        "os.write(w, bytes(1 << 20))"
    ),
    "timers": (
        "import ctypes\nlibc = ctypes.CDLL(None); t = ctypes.c_void_p()\n"
        "while libc.timer_create(1, None, ctypes.byref(t)) == 0: pass"
    ),
    "children that nobody waits for": "import os\nwhile True:\n    if os.fork() == 0: os._exit(0)",
    "orphans of a reaper": (
        "import ctypes, os, time\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\nfor _ in range(20):\n"
        "    if os.fork() == 0:\n        if os.fork(): os._exit(0)\n        os.setsid(); time.sleep(60)\n"
    ),
    "children that hide": (
        "import ctypes, os, time\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\nfor _ in range(9):\n"
        "    if os.fork() == 0: os.setsid(); time.sleep(60)\n"
    ),
    "a misleading name": (
        "import ctypes, os\nctypes.CDLL(None).prctl(15, b') R 1 0 0 (', 0, 0, 0)\nos.fork()\nwhile True: pass"
    ),
    "children in stopped groups": "import os, signal\nos.fork(); os.setpgid(0, 0); os.kill(0, signal.SIGSTOP)",
    "a FIFO that nobody reads": "import os\nos.mkfifo('f'); open('f', 'w')",
    "names in one folder": "import os\nopen('x', 'w')\nfor n in range(10 ** 6): os.link('x', str(n))",
    "symbolic links in a circle": (
        "import os\nfor n in range(40): os.symlink(f'{n + 1}', f'{n}')\nos.symlink('0', '40'); os.listdir('0')"
    ),
    "folders in folders": "import os\nwhile True: os.mkdir('a' * 200); os.chdir('a' * 200)",
    "folders that cannot be read": (
        "import os\nfor n in range(300): os.mkdir('a', 0o300); os.chdir('a'); open('x', 'w')\nwhile True: pass"
    ),
    "a folder of no rights": "import os\nos.umask(0o777); os.makedirs('a'); open('b', 'w')",
    "names that are no text": "import os\n"
    "for n in range(128, 256): open(bytes([n, 10, 13, 27]) * 60, 'wb').write(b'x')",
    "its own folder removed": "import os, shutil\nshutil.rmtree(os.getcwd(), True)\nwhile True: os.getcwd()",
    "files that come and go": (
        "import os\nos.fork()\nwhile True:\n    try: open('x', 'w').write('x'); os.rename('x', 'y'); os.remove('y')\n"
        "    except OSError: pass"
    ),
    "a link in the place of a file": (
        "import os\nos.fork()\nwhile True:\n    try: os.symlink('/etc', 'x'); os.remove('x'); "
        "os.mkdir('x'); os.rmdir('x')\n"
        "    except OSError: pass"
    ),
    "bytes that are no text": "import os\nwhile True: os.write(1, bytes(range(256)) * 256)",
    "codes for a terminal": "while True: print('\\x1b]0;title\\x07\\x1b[2J\\x1b[31m' * 100)",
    "one line of a gigabyte": "import sys\nwhile True: sys.stdout.write('x' * (1 << 20))",
    "false reports": (
        "import os\nfor n in range(3, 4096):\n    try: os.write(n, b'0 0.0 \\n' * 10)\n"
        "    except OSError: pass\nraise SystemExit(5)"
    ),
    "a regular expression in a thread": (
        "import re, threading\n"
        "for _ in range(4): threading.Thread(target=re.match, args=('(a+)+$', 'a' * 50 + 'b')).start()"
    ),
    "memory in a circle of processes": (
        "import os\nx = b'x' * (20 << 20)\nfor n in range(20):\n    if os.fork() == 0: x = bytes(len(x) + n) ; break\n"
        "while True: pass"
    ),
}


@pytest.mark.parametrize("program", BOMBS.values(), ids=BOMBS)
def test_a_bomb_ends(contain, program, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = dataclasses.replace(SMALL, cpu_seconds=0.2, wall_seconds=0.3, output_bytes=200_000, folder_entries=2000)
    outcome = contain(program, limits)
    assert len(outcome.stdout.encode()) <= 3 * 200_000  # a byte that is no text becomes a character of three
    assert not list(tmp_path.iterdir()), "something of the run is left"


def test_a_false_report_is_not_believed(contain):
    assert contain(BOMBS["false reports"], SMALL).exit_code == 5


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has calls of 32 bits")
def test_calls_of_32_bits_end_the_program(contain):
    """Such a call has other numbers, which the filter does not know: getpid by `int 0x80`."""
    program = (
        "import ctypes, mmap\n"
        "memory = mmap.mmap(-1, 4096, prot=7); memory.write(bytes.fromhex('b814000000cd80c3'))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))())"
    )
    outcome = contain(program, SMALL)
    assert (outcome.status, outcome.stdout) == ("killed", "")


def test_a_copy_with_the_bit_of_another_user_gives_no_rights(contain):
    program = "import os, shutil, subprocess\nshutil.copy('/bin/sh', 'sh'); os.chmod('sh', 0o6777)\n"
    program += "print(os.getuid()); subprocess.run(['./sh', '-c', 'id -u'])"
    users = set(contain(program, SMALL).stdout.split())
    assert len(users) == 1 and users != {"0"}


def test_no_descriptor_of_ours_is_open_inside(contain, outside):
    """Also not one with a number above the limit of open files, which a process with many files has."""
    secret = os.open(outside / "secret", os.O_RDONLY)
    high = os.dup2(secret, 900, inheritable=True)
    try:
        listed = contain("import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[3:-1])", SMALL)
        contain("import os\nfor n in range(3, 1024):\n    try: print(os.pread(n, 99, 0))\n    except OSError: pass")
    finally:
        os.close(secret)
        os.close(high)
    assert listed.stdout in ("[]\n", "")


def test_what_a_program_leaves_does_not_change_the_next_one(contain):
    """Files that Python, a shell or matplotlib read when they start."""
    left = (
        "import os\nfor name in ('sitecustomize.py', 'usercustomize.py', '.bashrc', '.profile', 'json.py'):\n"
        "    for folder in ('.', os.path.expanduser('~'), '/tmp', '/dev/shm', '/var/tmp'):\n"
        "        try: open(os.path.join(folder, name), 'w').write('print(\"taken\")')\n"
        "        except OSError: pass"
    )
    contain(left, SMALL)
    assert contain("import json, subprocess; subprocess.run(['bash', '-lc', 'echo $0'])", SMALL).stdout == "bash\n"
