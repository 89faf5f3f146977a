"""Kill the writer: whatever the moment, what is on the disk verifies (R1, R2 for the writer itself)."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qianwen.runtime.files import atomic_folder, verify_folder

NUM_KILLS = int(os.environ.get("QIANWEN_KILLS", "30"))

SAVE_FOREVER = """
import sys
from qianwen.runtime.files import atomic_folder
print("ready", flush=True)
round = 0
while True:
    with atomic_folder(sys.argv[1]) as folder:
        for part in range(3):
            (folder / f"part-{part}").write_bytes(bytes([round % 256]) * 50_000)
    round += 1
"""

DIE_AT = """
import os, shutil, signal, sys
from pathlib import Path
from qianwen.runtime.files import atomic_folder
left = int(sys.argv[2])
def deadly(call):
    def wrapped(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
for module, name in ((os, "rename"), (os, "replace"), (os, "fsync"), (shutil, "rmtree"), (Path, "mkdir")):
    setattr(module, name, deadly(getattr(module, name)))
with atomic_folder(sys.argv[1]) as folder:
    (folder / "part-0").write_bytes(b"new")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_every_kill_leaves_a_whole_folder(tmp_path: Path):
    target = tmp_path / "model"
    moments = random.Random(0)
    for _ in range(NUM_KILLS):
        child = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, target], stdout=subprocess.PIPE, text=True)
        with child:
            assert child.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0, 0.05))
            child.kill()
        names = {path.name for path in tmp_path.iterdir()}
        if names & {"model", ".model.replaced"}:
            parts = verify_folder(target)["files"]
            assert len({entry["sha256"] for entry in parts.values()}) == 1, "parts of two rounds in one folder"
    with atomic_folder(target) as folder:
        (folder / "last").write_bytes(b"x")
    assert os.listdir(tmp_path) == ["model"], "a later save must clear what the dead left behind"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_a_kill_before_each_system_call_leaves_the_old_or_the_new_folder(tmp_path: Path):
    target = tmp_path / "model"
    for calls in range(40):
        with atomic_folder(target) as folder:
            (folder / "part-0").write_bytes(b"old")
        done = subprocess.run([sys.executable, "-c", DIE_AT, target, str(calls)])
        verify_folder(target)
        assert (target / "part-0").read_bytes() in (b"old", b"new")
        if done.returncode == 0:
            assert (target / "part-0").read_bytes() == b"new"
            return
        assert done.returncode == -signal.SIGKILL
    pytest.fail("one save makes more system calls than this test expects")
