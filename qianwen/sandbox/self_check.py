"""What a back-end must show on this machine before it runs anything: one program that tries to get out in each way.

The program inside prints the name of each way that worked. A few lines here are no proof; `tests/sandbox` has the
hostile programs.
"""

import os
import sys
import tempfile

from qianwen.runtime.translation import tr
from qianwen.sandbox.execution import Execution, execute
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.running import Backend, SandboxFailed

PROBE = """
import os, socket, subprocess, sys
canary, parent = sys.stdin.read().rsplit(" ", 1)
def read(path):
    open(path, "rb").read(1)
def write(path):
    open(path, "ab").write(b"x")
assert subprocess.run([sys.executable, "-I", "-S", "-c", "pass"]).returncode == 0
write("file"), read("file")
for name, attempt in {
    "read": lambda: read(canary),
    "write": lambda: write(canary),
    "environment": lambda: read(f"/proc/{parent}/environ"),
    "system": lambda: write("/usr/qianwen-sandbox"),
    "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "signal": lambda: os.kill(int(parent), 0),
}.items():
    try:
        attempt()
    except OSError:
        continue
    print(name)
"""
LIMITS = Limits(cpu_seconds=10, wall_seconds=30, processes=8, memory_bytes=256 << 20)


def check(backend: Backend) -> str:
    """Run the probe. Empty if the back-end works here and kept it inside; otherwise why not."""
    with tempfile.TemporaryDirectory(prefix="qianwen-outside-") as folder:
        os.chmod(folder, 0o755)
        canary = os.path.join(folder, "canary")
        with open(canary, "w", encoding="utf-8") as file:
            file.write("secret")
        os.chmod(canary, 0o666)
        argv = [sys.executable, "-I", "-S", "-B", "-c", PROBE]
        try:
            run = execute(backend, argv, {}, f"{canary} {os.getpid()}".encode(), LIMITS)
        except (SandboxFailed, OSError) as error:
            return str(error)
    return verdict(run)


def verdict(run: Execution) -> str:
    """What is wrong with a run of the probe; empty if nothing is."""
    output, errors = (text.decode("utf-8", "replace").strip() for text in run.output)
    if run.ended_by:
        return tr("the test program did not end ({limit})", limit=run.ended_by)
    if run.exit_code:
        reason = errors.rpartition("\n")[2] or tr("exit status {status}", status=run.exit_code)
        return tr("the test program failed: {reason}", reason=reason)
    ways = {
        "read": tr("read files of yours"),
        "write": tr("write files of yours"),
        "environment": tr("read your environment"),
        "system": tr("write to the system"),
        "socket": tr("open a socket"),
        "signal": tr("send signals to other processes"),
    }
    escaped = ", ".join(ways[name] for name in output.splitlines())
    return tr("a program inside can {ways}", ways=escaped) if escaped else ""
