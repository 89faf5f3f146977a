"""A seccomp filter: which system calls a program may not make. The kernel runs it before each call.

The filter is a program for the kernel's BPF machine (`linux/filter.h`), written here in Python. It denies by name and
allows the rest: a list of allowed calls would break with each new C library. Four kinds are denied:

    other processes    ptrace, reading their memory, their limits and priorities
    the kernel         modules, mounts, namespaces, BPF, keys, io_uring, performance counters, clocks
    the network        every socket; only pairs of connected Unix streams are allowed, and no question about network
                       devices by them. (A datagram socket of a pair can still be sent elsewhere.)
    uncounted memory   memory files and System V shared memory, which no limit of a process counts
"""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

from qianwen.sandbox.system_calls import number, prctl

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
OWN_PROCESS = ("prlimit64", "sched_setaffinity", "sched_setparam", "sched_setattr")
DENIED = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_getfd"),
    *("setpriority", "ioprio_set", "migrate_pages", "move_pages"),
    *("kexec_load", "kexec_file_load", "reboot", "init_module", "finit_module", "delete_module", "syslog", "acct"),
    *(
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "open_tree",
        "open_tree_attr",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
    ),
    *("fspick", "mount_setattr", "swapon", "swapoff", "quotactl", "quotactl_fd", "sysfs", "ustat", "uselib"),
    *("unshare", "setns", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "name_to_handle_at", "open_by_handle_at"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "iopl"),
    *("ioperm", "modify_ldt", "personality", "vhangup", "nfsservctl", "lookup_dcookie", "_sysctl", "fanotify_init"),
    *("memfd_create", "memfd_secret", "mq_open", "shmget", "shmat", "shmctl", "semget", "semop", "semctl"),
    *("semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl", "socket"),
)
# Landlock does not check changes of these. A refusal would end harmless programs that copy files with their times.
WITHOUT_EFFECT = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
    *("removexattr", "lremovexattr", "fremovexattr", "removexattrat", "file_setattr"),
)

LOAD_WORD, JUMP_IF_EQUAL, JUMP_IF_ANY, JUMP_IF_NOT_LESS, RETURN, AND = 0x20, 0x15, 0x45, 0x35, 0x06, 0x54
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data; low words of the arguments
X32 = 0x40000000  # calls of the x32 ABI have this bit
NEW_NAMESPACES = 0x7E020000  # the CLONE_NEW* of linux/sched.h, without CLONE_NEWTIME, which clone cannot take
AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET, SOCK_TYPE_MASK = 1, 1, 5, 0xF
TIOCSTI, TIOCLINUX, NETWORK_DEVICES = 0x5412, 0x541C, 0x8900  # the last: SIOC*, with any low byte
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def install(*, keep_attributes: bool) -> None:
    """Apply the filter to this process and all its children, for ever. Needs `PR_SET_NO_NEW_PRIVS`.

    With `keep_attributes` the modes, owners and times of files stay as they are, whatever the program does.
    """
    instructions = program(WITHOUT_EFFECT if keep_attributes else ())
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    address = ctypes.create_string_buffer(header, len(header))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(address), what="seccomp")


def program(without_effect: Sequence[str] = ()) -> list[Instruction]:
    """The whole filter, for this processor. Calls `without_effect` return success and do nothing."""
    architecture = ARCHITECTURES[os.uname().machine]
    code = [_load(ARCHITECTURE), (JUMP_IF_EQUAL, 1, 0, architecture), _give(KILL), _load(NUMBER)]
    if os.uname().machine == "x86_64":
        code += [(JUMP_IF_NOT_LESS, 0, 1, X32), _give(ERROR | errno.ENOSYS)]
    for name in DENIED:
        code += _when(name, [_give(ERROR | errno.EPERM)])
    for name in without_effect:
        code += _when(name, [_give(ERROR)])
    # A C library that gets ENOSYS falls back to clone, whose flags can be read.
    code += _when("clone3", [_give(ERROR | errno.ENOSYS)])
    code += _when("clone", [_load(FIRST), (JUMP_IF_ANY, 0, 1, NEW_NAMESPACES), *_either()])
    code += _when("socketpair", _unless_unix_stream())
    code += _when("ioctl", _if_terminal_or_network())
    # ZeroMQ sets the policy of each new thread to the one that it has, and ends the program if that is refused.
    code += _when("sched_setscheduler", [_load(FIRST), (JUMP_IF_EQUAL, 1, 0, 0), _give(ERROR), _give(ALLOW)])
    for name in OWN_PROCESS:
        code += _when(name, [_load(FIRST), (JUMP_IF_EQUAL, 1, 0, 0), *_either()])
    return [*code, _give(ALLOW)]


def _when(name: str, then: list[Instruction]) -> list[Instruction]:
    """Run `then`, which returns, if the call has this name."""
    called = number(name)
    return [] if called is None else [(JUMP_IF_EQUAL, 0, len(then), called), *then]


def _unless_unix_stream() -> list[Instruction]:
    kinds = [(JUMP_IF_EQUAL, 2, 0, SOCK_STREAM), (JUMP_IF_EQUAL, 1, 0, SOCK_SEQPACKET)]
    return [
        _load(FIRST),
        (JUMP_IF_EQUAL, 0, 4, AF_UNIX),
        _load(SECOND),
        (AND, 0, 0, SOCK_TYPE_MASK),
        *kinds,
        *_either(),
    ]


def _if_terminal_or_network() -> list[Instruction]:
    terminal = [(JUMP_IF_EQUAL, 3, 0, TIOCSTI), (JUMP_IF_EQUAL, 2, 0, TIOCLINUX)]
    return [_load(SECOND), *terminal, (AND, 0, 0, 0xFFFFFF00), (JUMP_IF_EQUAL, 0, 1, NETWORK_DEVICES), *_either()]


def _either() -> list[Instruction]:
    """The end of a check: the first instruction denies, the second allows."""
    return [_give(ERROR | errno.EPERM), _give(ALLOW)]


def _load(offset: int) -> Instruction:
    return (LOAD_WORD, 0, 0, offset)


def _give(value: int) -> Instruction:
    return (RETURN, 0, 0, value)
