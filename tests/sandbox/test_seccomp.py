"""System calls that a program could use against other processes, the kernel or the network are refused."""

import os
import platform
import re
import select
import socket
from pathlib import Path

import pytest

from qianwen.sandbox import seccomp
from qianwen.sandbox.system_calls import NUMBERS

CALL = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    print("allowed" if result >= 0 else f"refused: {os.strerror(ctypes.get_errno())}")
"""


def number(name: str) -> int:
    found = seccomp.number(name)
    assert found is not None
    return found


# The arguments are such that the kernel would obey an ordinary user or root.
CALLS = {
    "ptrace": "(16, %(ours)s, 0, 0)",  # PTRACE_ATTACH
    "process_vm_readv": "(%(ours)s, None, ctypes.c_ulong(0), None, ctypes.c_ulong(0), ctypes.c_ulong(0))",
    "kcmp": "(os.getpid(), os.getpid(), 0, 0, 0)",
    "mount": "(b'tmpfs', b'.', b'tmpfs', ctypes.c_ulong(0), None)",
    "chroot": "(b'.',)",
    "unshare": "(0x10000000,)",  # CLONE_NEWUSER
    "setns": "(0, 0)",
    "bpf": "(0, struct.pack('<IIII', 2, 4, 4, 1) + bytes(112), 128)",  # an array map
    "perf_event_open": "(struct.pack('<IIQ', 1, 112, 0) + bytes(96), 0, -1, -1, ctypes.c_ulong(0))",
    "keyctl": "(0, -3, 1)",  # KEYCTL_GET_KEYRING_ID of the session
    "add_key": "(b'user', b'name', b'x', ctypes.c_ulong(1), -3)",
    "io_uring_setup": "(1, ctypes.create_string_buffer(120))",
    "userfaultfd": "(1,)",
    "open_by_handle_at": "(-100, ctypes.create_string_buffer(136), 0)",
    "memfd_create": "(b'x', 0)",
    "shmget": "(0, ctypes.c_ulong(4096), 0o1600)",
    "setpriority": "(0, 0, 10)",
    "personality": "(0x0040000,)",  # ADDR_NO_RANDOMIZE
    "socket": "(1, 1, 0)",
    "prlimit64": "(%(ours)s, 7, None, ctypes.create_string_buffer(16))",
    "sched_setaffinity": "(%(ours)s, ctypes.c_ulong(8), struct.pack('<Q', 1))",
    "clone": "(ctypes.c_ulong(0x10000011), None, None, None, None)",  # a child in a new user namespace
}


def test_dangerous_system_calls_are_refused(contain):
    calls = "".join(f"print('{name}', end=' '); call({number(name)}, *{CALLS[name]})\n" for name in CALLS)
    lines = contain(CALL + calls, ours=os.getpid()).stdout.splitlines()
    assert lines == [f"{name} refused: Operation not permitted" for name in CALLS]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has a second numbering of its calls")
def test_the_x32_numbers_of_the_same_calls_are_refused(contain):
    assert contain(f"{CALL}call({0x40000000 | number('socket')}, 2, 1, 0)").stdout.startswith("refused")


def test_clone3_sends_the_c_library_to_clone(contain):
    assert contain(f"{CALL}call({number('clone3')}, None, ctypes.c_ulong(0))").stdout.startswith("refused: Function")
    assert contain("import threading; t = threading.Thread(target=print); t.start(); t.join()").stdout == "\n"


NETWORK = {
    "TCP": "socket.create_connection(('127.0.0.1', %(port)s), 0.2).send(b'x')",
    "TCP version 6": "socket.create_connection(('::1', %(port)s), 0.2).send(b'x')",
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', %(port)s))",
    "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).sendto(b'x', ('127.0.0.1', 0))",
    "netlink": "socket.socket(16, socket.SOCK_RAW, 0).bind((0, 0))",
    "a Unix socket of ours": "socket.socket(socket.AF_UNIX).connect('%(path)s')",
    "an abstract Unix socket": "socket.socket(socket.AF_UNIX).connect('\\0%(path)s')",
    "a listener": "socket.create_server(('127.0.0.1', 0)); print('listening')",
    "names": "print(socket.getaddrinfo('localhost', 80), socket.gethostbyname('example.com'))",
    "a pair that is no Unix pair": "socket.socketpair(socket.AF_INET); print('pair')",
    "by the program ping": "import subprocess; subprocess.run(['ping', '-c1', '-W1', '127.0.0.1'])",
    "by bash": "import subprocess; subprocess.run(['bash', '-c', 'echo x > /dev/tcp/127.0.0.1/%(port)s'])",
}


@pytest.fixture
def listeners(tmp_path):
    """A port and a path where we listen, and a function that says at which of our sockets something arrived."""
    path = str(tmp_path / "socket")
    sockets = {"tcp": socket.socket(), "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM)}
    sockets |= {"unix": socket.socket(socket.AF_UNIX), "abstract": socket.socket(socket.AF_UNIX)}
    sockets["tcp"].bind(("127.0.0.1", 0))
    port = sockets["tcp"].getsockname()[1]
    sockets["udp"].bind(("127.0.0.1", port))
    sockets["unix"].bind(path)
    sockets["abstract"].bind(f"\0{path}")
    os.chmod(path, 0o777)
    for name in ("tcp", "unix", "abstract"):
        sockets[name].listen()
    yield port, path, lambda: select.select(list(sockets.values()), [], [], 0)[0]
    for listener in sockets.values():
        listener.close()


def test_nothing_reaches_the_network(contain, outside, listeners):
    port, path, arrived = listeners
    programs = {name: f"import socket\n{program}" for name, program in NETWORK.items()}
    outcome = contain(programs, port=port, path=path)
    assert not arrived()
    refused = [line.split(":")[0] for line in outcome.stdout.splitlines() if line.endswith(("Error", "gaierror"))]
    assert set(refused) >= {name for name in NETWORK if not name.startswith("by ")}


def test_two_connected_unix_sockets_are_allowed(contain):
    pair = "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))"
    assert contain(pair).stdout == "b'x'\n"


@pytest.mark.parametrize("command", [["sudo", "-n", "id"], ["su", "-c", "id"], ["mount", "-t", "tmpfs", "x", "/tmp"]])
def test_programs_with_rights_of_root_get_none(contain, command):
    program = (
        "import os, subprocess\ntry: os.setuid(0); print('root')\nexcept OSError: pass\nsubprocess.run(%(command)r)"
    )
    assert "root" not in contain(program, command=command).stdout


def test_a_program_from_memory_stays_inside(contain, outside):
    """Where memory files are refused, a program can still write its code to a file and execute that."""
    program = """
import os
try: descriptor = os.memfd_create("x")
except OSError: descriptor = os.open("copy", os.O_RDWR | os.O_CREAT, 0o700)
os.write(descriptor, open("/bin/cat", "rb").read())
path = f"/proc/self/fd/{descriptor}" if not os.path.exists("copy") else "copy"
if path == "copy": os.close(descriptor)
os.execv(path, ["cat", "%(secret)s", "program.py"])
"""
    outcome = contain(program, secret=outside / "secret")
    assert outcome.stdout.startswith("\nimport os") and outcome.exit_code == 1


def test_the_numbers_are_those_of_the_headers_of_the_kernel():
    headers = {0: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 1: "/usr/include/asm-generic/unistd.h"}
    known = {column: Path(path) for column, path in headers.items() if Path(path).exists()}
    if not known:
        pytest.skip("the headers of the kernel are not installed (linux-libc-dev)")
    for column, path in known.items():
        defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", path.read_text()))
        for name, numbers in NUMBERS.items():
            if numbers[column] is not None and name in defined:
                assert int(defined[name]) == numbers[column], name
