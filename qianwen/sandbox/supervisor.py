"""The process beside the program: it watches time and memory, and ends everything that the program started.

In a process namespace it is process 1, so the kernel ends all others with it. Elsewhere it adopts every orphan of the
program (`PR_SET_CHILD_SUBREAPER`), and kills its descendants until none is left. It stops when its lifeline, the pipe
from the process that asked for the run, closes, whatever closed it. A byte in the lifeline interrupts the program.
"""

import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from qianwen.sandbox.removal import remove_folder

TICK = 20  # milliseconds between two measurements, at most
FASTEST_WRITES = 4 << 20  # bytes in a millisecond, into the page cache of a fast machine
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
INTERRUPT = b"i"


def supervise(config: dict, report: int, lifeline: int, start: Callable[[], None]) -> None:
    """Start the program in a child by `start`, which does not return, and report how it ended.

    The report is a line: exit code, processor time, and the limit that ended the program, if one did.
    """
    child = os.fork()
    if child == 0:
        start()
    ended_by: str | None = "stopped"
    try:
        ended_by, cpu = watch(config, child, lifeline)
        _, status = os.waitpid(child, 0)
        cpu = max(cpu, cpu_seconds(config))
    finally:
        end_all(config)
        # A parent that was killed closes its pipe a moment before it is gone, so `getppid` alone is not enough.
        is_alone = ended_by == "stopped" or os.getppid() != config["parent"]
        if config["backend"] == "landlock" and is_alone:
            remove_folder(config["folder"])
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu >= config["limits"]["cpu_seconds"]):
        ended_by = ended_by if ended_by not in (None, "stopped") else "cpu"
    os.write(report, f"{code} {cpu} {ended_by or ''}\n".encode())


def watch(config: dict, child: int, lifeline: int) -> tuple[str | None, float]:
    """Wait for the end of the program, or kill it: what ended it, and the processor time that was measured last."""
    watched = os.pidfd_open(child)
    events = select.poll()
    events.register(watched, select.POLLIN)
    events.register(lifeline, select.POLLIN)
    ended_by, cpu, room = None, 0.0, config["limits"]["folder_bytes"]
    while True:
        # Before the program can have filled the room that is left in its folder.
        happened = {descriptor for descriptor, _ in events.poll(min(TICK, 1 + room // FASTEST_WRITES))}
        if watched in happened:
            break
        cpu = max(cpu, cpu_seconds(config))
        has_parent = config["backend"] != "landlock" or os.getppid() == config["parent"]
        room = room_left(config)
        is_wanted = has_parent and (lifeline not in happened or obey(lifeline, child))
        ended_by = exceeded(config, cpu, room) if is_wanted else "stopped"
        if ended_by:
            os.kill(child, signal.SIGKILL)
            break
        reap(child)
    return ended_by, cpu


def obey(lifeline: int, child: int) -> bool:
    """Do what the process that asked for the run wants: interrupt the program. False: it wants nothing any more."""
    request = os.read(lifeline, 1)
    if request == INTERRUPT:
        with suppress(ProcessLookupError):  # it has not made its group yet
            os.killpg(child, signal.SIGINT)
    return bool(request)


def exceeded(config: dict, cpu: float, room: int) -> str | None:
    """Which limit of the whole run is exceeded now, with `room` bytes left in the folder."""
    limits = config["limits"]
    if time.monotonic() > config["deadline"]:
        return "wall"
    if cpu > limits["cpu_seconds"]:
        return "cpu"
    if resident_bytes(config) > limits["memory_bytes"]:
        return "memory"
    return "folder" if room < 0 else None


def room_left(config: dict) -> int:
    """Bytes that still fit into the program's folder, and -1 if it exceeds a limit.

    In the other back-ends the folder's file system has the limits, so there the room is always the whole.
    """
    limits = config["limits"]
    if config["backend"] != "landlock":
        return limits["folder_bytes"]
    entries = size = 0
    waiting = [config["folder"]]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as listed:
                for entry in listed:
                    entries += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entries > limits["folder_entries"] or size > limits["folder_bytes"]:
                        return -1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:  # removed since it was listed
            continue
        except OSError:  # made unreadable, or its path too long, and so uncountable
            return -1
    return limits["folder_bytes"] - size


def cpu_seconds(config: dict) -> float:
    """Processor time of all processes of the run: those that ended and those that run."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for pid in members(config):
        fields = read(pid, "stat").rpartition(")")[2].split()
        if fields:
            total += sum(map(int, fields[11:15])) / TICKS_PER_SECOND
    return total


def resident_bytes(config: dict) -> int:
    """Memory of all processes of the run. A page that several of them share counts once for each."""
    return sum(int(fields[1]) * PAGE for pid in members(config) if (fields := read(pid, "statm").split()))


def members(config: dict) -> list[int]:
    """The processes of the run."""
    if config["backend"] != "landlock":
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
    found, waiting = [], [os.getpid()]
    while waiting:
        pid = waiting.pop()
        below = [int(child) for child in children(pid)]
        found += below
        waiting += below
    return found


def children(pid: int) -> list[str]:
    """The children of all threads of a process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [child for thread in threads for child in read(pid, f"task/{thread}/children").split()]


def read(pid: int, name: str) -> str:
    """A file about a process; empty if the process has ended."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def reap(child: int) -> None:
    """Collect the orphans that ended, but leave the program's own status for later."""
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != child:
        os.waitpid(ended.si_pid, 0)


def end_all(config: dict) -> None:
    """Kill until no process of the run is left."""
    if config["backend"] != "landlock":
        kill(-1)
        return
    while True:
        for pid in members(config):
            forbid_forks(pid)
            kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def forbid_forks(pid: int) -> None:
    """A process without a free slot cannot outrun the killing by new children."""
    try:
        resource.prlimit(pid, resource.RLIMIT_NPROC, (0, 0))
    except OSError:
        return


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return
