"""Limits on the memory of this process that are below the memory of the machine: containers and `ulimit`.

    control groups    a container or a service has a maximum, `memory.max` (version 2) or `memory.limit_in_bytes`
    RLIMIT_AS         `ulimit -v`: the address space of the process

An allocation above a container's limit ends the process without a message; one above RLIMIT_AS raises MemoryError.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def limited_bytes() -> list[int]:
    """What this process may still take under each limit, in bytes; empty if there is none."""
    return [*_group_room(), *_address_room()]


def _group_room() -> Iterator[int]:
    """The room in each control group that holds this process, from its own up to the root."""
    for folder, (limit, used) in _memory_groups():
        try:
            allowed, taken = (folder / limit).read_text().strip(), int((folder / used).read_text())
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if allowed.isdigit():  # else "max": no limit
            yield int(allowed) - taken + int(statistics.get("inactive_file", 0))  # cached files give their memory back


def _memory_groups() -> Iterator[tuple[Path, tuple[str, str]]]:
    if not OWN_GROUP.exists():
        return
    for line in OWN_GROUP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, files = GROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, files = GROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = root / path.strip("/")
        while folder.is_relative_to(root):
            yield folder, files
            folder = folder.parent


def _address_room() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield soft - psutil.Process().memory_info().vms
