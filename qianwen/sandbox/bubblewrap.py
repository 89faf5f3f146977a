"""The command line of bubblewrap, which makes the namespaces and the tree of files; `launcher.py` then runs inside."""

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath


def arguments(readable: Mapping[str, str], devices: Sequence[str], writable: Mapping[str, str]) -> list[str]:
    """Run the launcher, which follows, as the first process of a new process namespace, with only these files.

    The capabilities are the launcher's, which gives them up before the program starts.
    """
    options = ["--die-with-parent", "--new-session", "--as-pid-1", "--clearenv", "--unshare-pid", "--unshare-net"]
    options += ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
    needed = ["CAP_SYS_ADMIN"]
    if os.geteuid() == 0:
        needed += ["CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_KILL"]
    else:
        options += ["--unshare-user"]
    for capability in needed:
        options += ["--cap-add", capability]
    for place in writable:
        options += ["--perms", "1777", "--tmpfs", place]
    # bubblewrap makes missing parent folders that only root can enter.
    for parent in dict.fromkeys(str(above) for place in readable for above in reversed(PurePath(place).parents[:-1])):
        options += ["--dir", parent]
    for place, source in readable.items():
        options += ["--symlink", os.readlink(source), place] if os.path.islink(source) else ["--ro-bind", source, place]
    for place in devices:
        options += ["--dev-bind", place, place]
    return [*options, "--proc", "/proc", "--remount-ro", "/", "--chdir", "/", "--"]
