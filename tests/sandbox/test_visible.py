"""Files outside of a program's folder can neither be read nor written, on whatever way they are reached."""

import json
import os
import sys
from pathlib import Path

import pytest

from qianwen.sandbox import visible

# Each prints what it could read. `secret` is a file that every user may read and write, `ours` is this process.
READERS = {
    "a file of another user": "print(open('%(secret)s').read())",
    "a symbolic link": "import os; os.symlink('%(secret)s', 'link'); print(open('link').read())",
    "a symbolic link to the root": "import os; os.symlink('/', 'up'); print(open('up%(secret)s').read())",
    "a hard link": "import os; os.link('%(secret)s', 'link'); print(open('link').read())",
    "a path through the parent folder": "print(open('../' * 20 + '%(secret)s').read())",
    "the current folder of process 1": "print(open('/proc/1/cwd/%(secret)s').read())",
    "the root of process 1": "import os; os.chdir('/proc/1'); print(open('root%(secret)s').read())",
    "the root of our process": "import os; os.chdir('/proc/%(ours)s'); print(open('root%(secret)s').read())",
    "the descriptors that we have open": (
        "import os\n"
        "for number in range(256):\n"
        "    try:\n"
        "        print(number, os.pread(number, 1000, 0), os.listdir(f'/proc/self/fd/{number}'))\n"
        "    except OSError: pass\n"
        "print(open('%(secret)s').read())"
    ),
    "our environment": "print(open('/proc/%(ours)s/environ', 'rb').read())",
    "the environment of process 1": "print(open('/proc/1/environ', 'rb').read())",
    "its own environment": "import os; print(dict(os.environ)); print(open('/proc/self/environ').read())",
    "our memory": (
        "for line in open('/proc/%(ours)s/maps'):\n"
        "    start, end = (int(part, 16) for part in line.split()[0].split('-'))\n"
        "    memory = open('/proc/%(ours)s/mem', 'rb'); memory.seek(start); print(memory.read(end - start))"
    ),
    "files by their handle": (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "handle = ctypes.create_string_buffer(8 + 128)\n"
        "print(libc.open_by_handle_at(-100, handle, 0), open('%(secret)s').read())"
    ),
    "the folder of the run before": (
        "import glob; print([open(name).read() for name in glob.glob('/tmp/*/*') + glob.glob('/dev/shm/*')])\n"
        "print(open('%(secret)s').read())"
    ),
}


def test_nothing_outside_can_be_read(contain, outside, monkeypatch):
    """`contain` checks that the secret is not in the output."""
    monkeypatch.setenv("QIANWEN_TEST_SECRET", (outside / "secret").read_text())
    contain(READERS, secret=outside / "secret", ours=os.getpid())


def test_files_of_the_system_administrator_cannot_be_read(contain):
    paths = ["/etc/shadow", "/etc/passwd", "/etc/ssh", "/var/log", "/boot", "/sys/kernel", "/dev/sda", "/dev/mem"]
    read = "import os\nprint('opened', os.listdir(%r) if os.path.isdir(%r) else open(%r).read(1))"
    assert "opened" not in contain({path: read % (path, path, path) for path in paths}).stdout


def test_the_home_folder_is_not_visible(contain):
    home = Path.home()
    keys = "import os\nfor name in ('', '.ssh', '.cache', '.bashrc'):\n    print(os.listdir('%(home)s/' + name))"
    listed = contain(keys, home=home).stdout
    below = {Path(place).relative_to(home).parts[0] for place in visible.readable() if Path(place).is_relative_to(home)}
    assert listed in ("", f"{sorted(below)}\n")


# Each tries to change something at `place` and ignores refusals.
WRITERS = {
    "open": "open('%(place)s', 'a').write('x')",
    "make a folder": "os.mkdir('%(place)s.d')",
    "rename": "open('mine', 'w').close(); os.rename('mine', '%(place)s')",
    "remove": "os.remove('%(place)s')",
    "truncate": "os.truncate('%(place)s', 0)",
    "change the mode": "os.chmod('%(place)s', 0o777)",
    "a symbolic link": "os.symlink('%(place)s', 'link'); open('link', 'a').write('x')",
    "a hard link": "os.link('%(place)s', 'link'); open('link', 'a').write('x')",
    "set the times": "os.utime('%(place)s', (1, 1))",
    "make a device": "os.mknod('disk', 0o60666, os.makedev(254, 0)); open('disk', 'r+b').write(b'x')",
}


def test_nothing_outside_can_be_changed(contain, outside):
    place = outside / "secret"
    before = place.stat()
    contain({name: f"import os\n{program}" for name, program in WRITERS.items()}, place=place)
    after = place.stat()
    assert (after.st_ino, after.st_size, after.st_mode, after.st_mtime) == (
        before.st_ino,
        before.st_size,
        before.st_mode,
        before.st_mtime,
    )
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_nothing_is_written_to_the_system(contain, tmp_path):
    folders = ["/", "/etc", "/usr", "/usr/bin", "/tmp", "/var/tmp", "/home", "/proc/sys/kernel", "/run", "/dev/shm"]
    name = f"qianwen-{tmp_path.name}"
    contain({folder: f"open('{folder}/{name}', 'w').write('x')" for folder in folders})
    assert not [folder for folder in folders if (Path(folder) / name).exists()]


def test_settings_of_the_kernel_cannot_be_written(contain):
    setting = Path("/proc/sys/kernel/hostname")
    before = setting.read_text()
    file = "open('/proc/sys/kernel/hostname', 'w').write('taken')"
    contain({"by its file": file, "by its call": "import socket; socket.sethostname('taken')"})
    assert setting.read_text() == before


def test_the_interpreter_and_its_packages_cannot_be_changed(contain):
    paths = [Path(module.__file__ or "") for module in (json, os, pytest)]
    before = [path.read_bytes() for path in paths]
    new = "import os\nfor path in sys.path: open(os.path.join(path, 'sitecustomize.py'), 'w').write('x')"
    contain({str(path): f"open('{path}', 'a').write('x')" for path in paths} | {"a new module": f"import sys; {new}"})
    assert [path.read_bytes() for path in paths] == before
    assert not [path for path in sys.path if Path(path, "sitecustomize.py").exists()]


def test_a_run_leaves_nothing_for_the_next_one(contain):
    folders = (".", "/tmp", "/dev/shm")
    contain({folder: f"open('{folder}/left', 'w').write('x')" for folder in folders})
    seen = contain({folder: f"import os; print(os.listdir('{folder}'))" for folder in folders}).stdout
    assert "left" not in seen and "program.py" in seen


def test_the_environment_is_a_short_list(contain, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    seen = contain("import os; print(sorted(os.environ))").stdout
    assert seen == f"{sorted(visible.environment(''))}\n"


def test_only_settings_without_secrets_are_visible():
    assert not {place for place in visible.readable() if "shadow" in place or "passwd" in place or "ssh" in place}
