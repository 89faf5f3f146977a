"""Users and capabilities of a process. The program itself has no capability and is never root.

When we are root, each run has a user id of its own, so that limits by user count this run alone, and files of root are
not its files. Ordinary users keep their own id.
"""

import os
import struct

from qianwen.sandbox.system_calls import prctl, system_call

# linux/capability.h, linux/prctl.h
CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN = 2, 21
CAPABILITY_VERSION_3 = 0x20080522
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 1, 4, 8, 38
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2


def has_capability(capability: int) -> bool:
    """Whether this process may use a capability."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        (effective,) = (line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> capability & 1)


def become(uid: int | None, keep: int | None = None) -> None:
    """Change to the user `uid`, if one is given, and give up all capabilities but `keep`, for ever."""
    if uid is not None:
        prctl(PR_SET_KEEPCAPS, int(keep is not None), what="PR_SET_KEEPCAPS")
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    mask = 0 if keep is None else 1 << keep
    header = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable: the low words, then the high words
    system_call("capset", header, struct.pack("<6I", mask, mask, mask, 0, 0, 0))
    if keep is not None:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, keep, what="PR_CAP_AMBIENT_RAISE")
    prctl(PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")


def die_with_parent(signal: int) -> None:
    """Get `signal` when the thread that started this process ends."""
    prctl(PR_SET_PDEATHSIG, signal, what="PR_SET_PDEATHSIG")


def hide_memory() -> None:
    """Let no process of the same user read this one's memory or environment."""
    prctl(PR_SET_DUMPABLE, 0, what="PR_SET_DUMPABLE")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    prctl(PR_SET_CHILD_SUBREAPER, 1, what="PR_SET_CHILD_SUBREAPER")
