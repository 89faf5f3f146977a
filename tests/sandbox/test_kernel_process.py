"""The process of a kernel starts or says why, and ends with its owner."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("ipykernel")

from qianwen.runtime.errors import ConfigError
from qianwen.sandbox import kernel_process
from qianwen.sandbox.ipython import Kernel
from qianwen.sandbox.process import Sandbox

OWNER = """
import sys, time
from pathlib import Path
from qianwen.sandbox.ipython import Kernel
from qianwen.sandbox.process import Sandbox
kernel = Kernel.open(Sandbox({backend!r}), Path({folder!r}))
kernel.run("import os\\nfor _ in range(2):\\n"
    "    if os.fork() == 0: os.setsid(); os.execv('/bin/sleep', ['sleep', '{mark}'])")
print("ready", flush=True)
{then}
"""
ENDS = {
    "killed": ("time.sleep(60)", signal.SIGKILL),
    "at exit": ("", None),
    "an exit without cleaning": ("import os; os._exit(0)", None),
}


@pytest.mark.parametrize(("then", "number"), ENDS.values(), ids=ENDS)
def test_no_process_outlives_the_owner(sandbox, survivors, tmp_path, then, number):
    (tmp_path / "files").mkdir()
    (tmp_path / "tmp").mkdir()
    mark = f"1{os.getpid()}{abs(hash(str(tmp_path))) % 10**8}"
    script = OWNER.format(backend=sandbox.backend, folder=str(tmp_path / "files"), then=then, mark=mark)
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert owner.stdout and owner.stdout.readline() == b"ready\n"
    if number:
        assert len(survivors(mark)) >= 2
        owner.send_signal(number)
    owner.communicate()
    deadline = time.monotonic() + 10
    while ((left := survivors(mark)) or list((tmp_path / "tmp").iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left and not list((tmp_path / "tmp").iterdir())


def test_a_kernel_that_does_not_start_is_an_error_with_its_reason(sandbox, tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    monkeypatch.setattr(kernel_process, "PROGRAM", "/usr/nothing.py")
    with pytest.raises(ConfigError, match="could not start a program: .*nothing.py"):
        Kernel.open(Sandbox(sandbox.backend), tmp_path).run("1")
    assert not program.exists()
