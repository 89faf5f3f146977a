"""Namespaces: a program's own processes, network, mounts, users, host name and messages; and its own tree of files.

The tree is built in memory: system folders are bound read-only at their usual places, and what is not bound does not
exist. An ordinary user gets the right to do this from a new user namespace; root has it already.
"""

import ctypes
import os
import struct

from qianwen.sandbox.privileges import CAP_SYS_ADMIN, has_capability
from qianwen.sandbox.system_calls import checked, libc, system_call

# linux/sched.h, linux/mount.h, linux/fcntl.h
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
AT_FDCWD, AT_RECURSIVE = -100, 0x8000


def enter() -> None:
    """Move this process into new namespaces. Its next child is the first process of the new process namespace."""
    flags = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWPID | NEWNET
    if has_capability(CAP_SYS_ADMIN):
        checked(libc.unshare(ctypes.c_int(flags)), "unshare")
        return
    uid, gid = os.geteuid(), os.getegid()
    checked(libc.unshare(ctypes.c_int(flags | NEWUSER)), "unshare with a user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def build_tree(readable: dict[str, str], devices: list[str], writable: dict[str, str]) -> None:
    """Replace all mounts by a tree that has only these places.

    `readable` maps places to the files or folders of the host that appear there, `writable` maps folders to the options
    of their file system in memory.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    os.chdir("/tmp")
    os.mkdir("old")
    system_call("pivot_root", b".", b"old")
    os.chdir("/")
    for place, options in writable.items():
        os.makedirs(place, exist_ok=True)
        mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, options)
    for place, source in readable.items():
        bind(f"/old{source}", place, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    for place in devices:
        bind(f"/old{place}", place, ATTR_NOSUID | ATTR_NOEXEC)
    os.makedirs("/proc")
    mount("proc", "/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    checked(libc.umount2(b"/old", ctypes.c_int(MNT_DETACH)), "umount")
    os.rmdir("/old")
    set_attributes("/", ATTR_RDONLY, 0)


def bind(source: str, place: str, attributes: int) -> None:
    """Make a file or folder of the host appear at `place`; a symbolic link is made again."""
    if os.path.lexists(place) and not os.path.isdir(place):
        return
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), place)
        return
    if os.path.isdir(source):
        os.makedirs(place, exist_ok=True)
    else:
        open(place, "x").close()
    mount(source, place, None, MS_BIND | MS_REC)
    set_attributes(place, attributes, AT_RECURSIVE)


def mount(source: str, place: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """`mount`, with the place in the message of an error."""
    texts = [None if text is None else os.fsencode(text) for text in (source, place, kind)]
    data = None if options is None else options.encode()
    checked(libc.mount(*texts, ctypes.c_ulong(flags), data), f"mount {kind or 'bind'} at {place}")


def set_attributes(place: str, attributes: int, flags: int) -> None:
    """Add attributes such as read-only to a mount, and with AT_RECURSIVE to all below it."""
    wanted = struct.pack("<QQQQ", attributes, 0, 0, 0)
    size = ctypes.c_size_t(len(wanted))
    system_call("mount_setattr", ctypes.c_int(AT_FDCWD), os.fsencode(place), ctypes.c_uint(flags), wanted, size)
