"""The start of a run, in a small Python process: enter the isolation, give up every right, become the program.

It imports the standard library alone and little of it, because each run pays for its start.
"""

import marshal
import os
import resource
import signal
from contextlib import suppress

from qianwen.sandbox import landlock, namespaces, privileges, seccomp
from qianwen.sandbox.supervisor import supervise

OPEN_FILES = 256
READ_ALL = privileges.CAP_DAC_READ_SEARCH


def main(arguments: list[str]) -> None:
    """Run the program that the configuration describes; every failure goes to the report."""
    configuration, report, lifeline = map(int, arguments)
    try:
        with open(configuration, "rb") as file:
            config = marshal.load(file)
        prefer_for_memory_kill()
        if config["backend"] == "namespaces":
            enter_namespaces(config)
        elif config["backend"] == "bubblewrap":
            finish_tree(config)
        else:
            landlock.need_scopes()
            privileges.adopt_orphans()
        privileges.hide_memory()
        write_files(config)
        supervise(config, report, lifeline, lambda: become_program(config, report))
    except OSError as error:
        fail(report, error)


def prefer_for_memory_kill() -> None:
    """When the machine runs out of memory, let the kernel end this run first."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def enter_namespaces(config: dict) -> None:
    """Go on as process 1 of new namespaces; the process outside waits for it."""
    privileges.die_with_parent(signal.SIGKILL)
    if os.getppid() != config["parent"]:
        os._exit(1)
    namespaces.enter()
    if first := os.fork():
        os.waitpid(first, 0)
        os._exit(0)
    privileges.die_with_parent(signal.SIGKILL)
    namespaces.build_tree(config["readable"], config["devices"], config["writable"])


def finish_tree(config: dict) -> None:
    """What bubblewrap has no options for: limit the number of files in memory, and make `/proc` read-only."""
    flags = namespaces.MS_REMOUNT | namespaces.MS_NOSUID | namespaces.MS_NODEV
    for place, options in config["writable"].items():
        namespaces.mount("tmpfs", place, "tmpfs", flags, options)
    flags |= namespaces.MS_BIND | namespaces.MS_NOEXEC | namespaces.MS_RDONLY
    namespaces.mount("proc", "/proc", None, flags)


def write_files(config: dict) -> None:
    """Write the program's files into its folder, and give both to the program's user.

    The folder may have more in it: read-only parts of a Python that is installed below `/tmp`.
    """
    os.chdir(config["folder"])
    own = {"."}
    for name, content in config["files"].items():
        if folder := os.path.dirname(name):
            os.makedirs(folder, exist_ok=True)
        with open(name, "wb") as file:
            file.write(content)
        while name:
            own.add(name)
            name = os.path.dirname(name)
    if config["uid"] is not None:
        for path in own:
            os.chown(path, config["uid"], config["uid"])


def become_program(config: dict, report: int) -> None:
    """Give up every right and execute the program. An error goes to the report."""
    try:
        os.setsid()
        uid = config["uid"]
        close_all_but([0, 1, 2, report, *config["keep"]])
        set_limits(config["limits"], processes_before(config))
        # Root's Python may be in a folder that only root can read; Landlock decides then what can be read.
        keeps = uid is not None and config["backend"] == "landlock" and privileges.has_capability(READ_ALL)
        privileges.become(uid, READ_ALL if keeps else None)
        if config["backend"] != "bubblewrap":
            landlock.restrict(config["allowed"], [*config["devices"], *config["writable"]])
        os.set_inheritable(report, False)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a new program would too
            signal.signal(number, signal.SIG_DFL)
        seccomp.install(keep_attributes=config["backend"] == "landlock")
        os.execve(config["argv"][0], config["argv"], config["environment"])
    except OSError as error:
        fail(report, error)


def close_all_but(kept: list[int]) -> None:
    """Close the other descriptors. Ours may have had any number."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in kept:
            with suppress(OSError):  # the one that listed the others
                os.close(number)


def processes_before(config: dict) -> int:
    """Processes and threads that the kernel counts against the limit although they are not of this run.

    A new user namespace and a new user id begin at zero.
    """
    if config["backend"] != "landlock" or config["uid"] is not None:
        return 0
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:  # it has ended
            continue
    return count


def set_limits(limits: dict, processes_before: int) -> None:
    """Limits of each process. Those of the whole run are the supervisor's."""
    cpu = max(1, int(limits["cpu_seconds"] + 0.999))
    for name, soft, hard in (
        ("RLIMIT_AS", limits["memory_bytes"], limits["memory_bytes"]),
        ("RLIMIT_CPU", cpu, cpu + 1),
        ("RLIMIT_FSIZE", limits["file_bytes"], limits["file_bytes"]),
        ("RLIMIT_NPROC", limits["processes"] + processes_before, limits["processes"] + processes_before),
        ("RLIMIT_NOFILE", OPEN_FILES, OPEN_FILES),
        ("RLIMIT_CORE", 0, 0),
        ("RLIMIT_MEMLOCK", 0, 0),
        ("RLIMIT_MSGQUEUE", 0, 0),
    ):
        resource.setrlimit(getattr(resource, name), (soft, hard))


def fail(report: int, error: OSError) -> None:
    """Report why there is no program, and end."""
    reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    os.write(report, f"failed {reason}\n".encode(errors="replace"))
    os._exit(1)
