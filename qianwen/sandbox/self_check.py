"""What a back-end must show on this machine before it runs anything: one program that tries to get out in each way.

The program inside prints the name of each way that worked. A few lines here are no proof; `tests/sandbox` has the
hostile programs.
"""

import os
import sys
import tempfile

from qianwen.sandbox.execution import Backend, SandboxFailed, execute
from qianwen.sandbox.limits import Limits

PROBE = """
import os, socket, subprocess, sys
canary, parent = sys.stdin.read().rsplit(" ", 1)
def opened(path, mode):
    with open(path, mode) as file:
        return file.read(1) if mode == "r" else file.write("x")
def connect():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
def started():
    assert subprocess.run([sys.executable, "-I", "-S", "-c", "pass"]).returncode == 0
def kept():
    with open("file", "w+") as file:
        file.write("x")
started(), kept()
for name, attempt in {
    "read a file of yours": lambda: opened(canary, "r"),
    "write a file of yours": lambda: opened(canary, "a"),
    "read your environment": lambda: opened(f"/proc/{parent}/environ", "r"),
    "write to the system": lambda: opened("/usr/qianwen-sandbox", "w"),
    "open a socket": connect,
    "send a signal to this process": lambda: os.kill(int(parent), 0),
}.items():
    try:
        attempt()
    except OSError:
        continue
    print(name)
"""
LIMITS = Limits(cpu_seconds=5, wall_seconds=10, processes=8, memory_bytes=256 << 20)


def check(backend: Backend) -> str:
    """Run the probe. Empty if the back-end works here and kept it inside; otherwise why not."""
    with tempfile.TemporaryDirectory(prefix="qianwen-outside-") as folder:
        canary = os.path.join(folder, "canary")
        with open(canary, "w", encoding="utf-8") as file:
            file.write("secret")
        os.chmod(folder, 0o755)
        argv = [sys.executable, "-I", "-S", "-B", "-c", PROBE]
        try:
            run = execute(backend, argv, {}, f"{canary} {os.getpid()}".encode(), LIMITS)
        except (SandboxFailed, OSError) as error:
            return str(error)
    output, errors = (text.decode("utf-8", "replace").strip() for text in run.output)
    if run.ended_by:
        return f"a small program was ended ({run.ended_by})"
    if run.exit_code:
        return errors.rpartition("\n")[2] or f"exit status {run.exit_code}"
    return f"a program inside could {', '.join(output.splitlines())}" if output else ""
