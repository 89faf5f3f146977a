"""A control group: one memory limit for all processes of a run, which the kernel keeps to the byte.

It also counts what no limit of a process counts: files in memory, pipes, folder entries. To make one mostly needs root.
Without one the supervisor alone adds up the memory of the processes, every few milliseconds.
"""

import functools
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

ROOT = "/sys/fs/cgroup"
PREFIX = "qianwen-"
OVERHEAD = 64 << 20  # bytes for the launcher and the supervisor
NAMES = {
    # version: the limit, further settings, the file that counts what the limit ended
    1: ("memory.limit_in_bytes", {"memory.memsw.limit_in_bytes": None, "memory.swappiness": "0"}, "memory.oom_control"),
    2: ("memory.max", {"memory.swap.max": "0", "memory.oom.group": "0"}, "memory.events"),
}


@dataclass(frozen=True)
class ControlGroup:
    """A folder of the kernel that limits the processes written into it."""

    folder: str
    version: int

    def entering(self, command: Sequence[str]) -> list[str]:
        """A command that enters the group and becomes `command`."""
        enter = f'echo $$ > {shlex.quote(self.folder)}/cgroup.procs || exit; exec "$@"'
        return ["/bin/sh", "-c", enter, "sh", *command]

    def has_ended_a_process(self) -> bool:
        """Whether the kernel killed a process of the group because of the limit."""
        with open(f"{self.folder}/{NAMES[self.version][2]}", encoding="ascii") as file:
            counts = dict(line.split() for line in file)
        return counts.get("oom_kill", "0") != "0"

    def remove(self) -> None:
        """Remove the group. The kernel may need a moment to let go of the last process."""
        for _ in range(100):
            with suppress(OSError):
                os.rmdir(self.folder)
                return
            time.sleep(0.002)


def make(number: int, memory_bytes: int) -> ControlGroup | None:
    """A new group below our own; None where we may not make one."""
    for version, above in _places():
        limit, settings, _ = NAMES[version]
        _remove_abandoned(above)
        group = ControlGroup(os.path.join(above, f"{PREFIX}{os.getpid()}-{number}"), version)
        try:
            os.mkdir(group.folder)
        except OSError:
            continue
        try:
            _write(group, limit, str(memory_bytes + OVERHEAD))
        except OSError:
            group.remove()
            continue
        for setting, value in settings.items():
            with suppress(OSError):  # not every kernel counts swap
                _write(group, setting, value or str(memory_bytes + OVERHEAD))
        return group
    return None


@functools.cache
def _remove_abandoned(above: str) -> None:
    """Remove the groups of processes that were killed before they could. A name is `qianwen-PROCESS-NUMBER`."""
    for name in os.listdir(above):
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and not os.path.exists(f"/proc/{owner}"):
            with suppress(OSError):  # the kernel refuses while a process is in it
                os.rmdir(os.path.join(above, name))


def _places() -> list[tuple[int, str]]:
    """Folders where a group with a memory limit may be made: ours, or the top where ours is not visible."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        ours = {line.split(":")[1]: line.rstrip("\n").split(":", 2)[2] for line in file}
    roots = [(1, f"{ROOT}/memory", ours.get("memory", "/")), (2, ROOT, ours.get("", "/"))]
    return [
        (version, folder)
        for version, root, own in roots
        for folder in dict.fromkeys((root + own.rstrip("/"), root))
        if os.path.exists(os.path.join(folder, "cgroup.procs"))
    ]


def _write(group: ControlGroup, name: str, value: str) -> None:
    with open(f"{group.folder}/{name}", "w", encoding="ascii") as file:
        file.write(value)
