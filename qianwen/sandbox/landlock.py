"""Landlock: a process gives up access to files, to the network and to other processes, for itself and its children.

No privilege is needed. What is not listed cannot be opened, whoever owns it. The versions of the kernel's interface
that matter here: 1 files, 3 truncating, 4 TCP, 5 devices, 6 signals and abstract Unix sockets to processes outside.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from qianwen.sandbox.system_calls import system_call

# linux/landlock.h
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
MAKE_CHAR, MAKE_SOCK, MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
RIGHTS_IN_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights of files each version knows
BIND_AND_CONNECT_TCP = 0b11
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
VERSION_FLAG, PATH_BENEATH = 1, 1
SIGNALS_VERSION = 6


def version() -> int:
    """The version of Landlock that this kernel has; an OSError if it has none."""
    return system_call("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION_FLAG))


def need_scopes() -> None:
    """Refuse a kernel that cannot keep signals inside, which matters where no process namespace does."""
    if (known := version()) < SIGNALS_VERSION:
        raise OSError(errno.ENOSYS, f"Landlock has version {known} here; {SIGNALS_VERSION} (Linux 6.12) is needed")


def restrict(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Leave this process reading below `readable` and reading and writing below `writable`; nothing else.

    Needs `PR_SET_NO_NEW_PRIVS`. Paths that do not exist are left out.
    """
    known = version()
    every = (1 << RIGHTS_IN_VERSION[min(known, max(RIGHTS_IN_VERSION))]) - 1
    network = BIND_AND_CONNECT_TCP if known >= 4 else 0
    scopes = ABSTRACT_SOCKETS_AND_SIGNALS if known >= SIGNALS_VERSION else 0
    attributes = struct.pack("<QQQ", every, network, scopes)[
        : 8 if known < 4 else 16 if known < SIGNALS_VERSION else 24
    ]
    rules = system_call("landlock_create_ruleset", attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    read = EXECUTE | READ_FILE | READ_DIR
    for paths, rights in ((readable, read), (writable, every & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV))):
        for path in paths:
            _allow(rules, path, rights & every)
    system_call("landlock_restrict_self", ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):
        rights &= EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
    rule = struct.pack("<Qi", rights, place)
    system_call("landlock_add_rule", ctypes.c_int(rules), ctypes.c_int(PATH_BENEATH), rule, ctypes.c_uint32(0))
    os.close(place)
