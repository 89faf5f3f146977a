"""The command line of bubblewrap, which makes the namespaces and the tree of files; `launcher.py` then runs inside."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import PurePath


def command(
    readable: Mapping[str, str], devices: Sequence[str], writable: Mapping[str, str], launcher: Sequence[str]
) -> list[str]:
    """Run `launcher` as the first process of a new process namespace, with only these files."""
    program = shutil.which("bwrap")
    if program is None:
        raise FileNotFoundError("bwrap")
    arguments = [program, "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv", "--unshare-pid"]
    arguments += ["--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
    # The launcher gives these up before the program starts.
    arguments += ["--cap-add", "CAP_SYS_ADMIN"]
    if os.geteuid() == 0:
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_KILL"):
            arguments += ["--cap-add", capability]
    else:
        arguments += ["--unshare-user"]
    for place in writable:
        arguments += ["--tmpfs", place]
    parents = {str(parent): None for place in readable for parent in reversed(PurePath(place).parents)}
    for place in list(parents)[1:]:
        arguments += ["--dir", place]
    for place, source in readable.items():
        if os.path.islink(source):
            arguments += ["--symlink", os.readlink(source), place]
        else:
            arguments += ["--ro-bind", source, place]
    for place in devices:
        arguments += ["--dev-bind", place, place]
    return [*arguments, "--proc", "/proc", "--remount-ro", "/", "--chdir", "/", "--", *launcher]
