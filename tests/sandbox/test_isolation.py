"""A back-end is used if it works on this machine; otherwise the error says what was tried and what to do."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from qianwen.runtime.errors import ConfigError
from qianwen.sandbox import isolation
from qianwen.sandbox.running import Backend


def test_at_least_one_back_end_works_on_a_machine_that_runs_the_tests():
    refusals = {backend: isolation.refusal(backend) for backend in get_args(Backend)}
    assert "" in refusals.values(), refusals


def refuse(monkeypatch, **reasons: str) -> None:
    monkeypatch.setattr(isolation, "refusal", lambda backend: reasons.get(backend, ""))


def test_the_first_that_works_is_chosen(monkeypatch):
    refuse(monkeypatch)
    assert isolation.choose("auto") == "bubblewrap"
    refuse(monkeypatch, bubblewrap="the program bwrap is not installed")
    assert isolation.choose("auto") == "namespaces"


def test_landlock_alone_is_never_chosen_by_itself(monkeypatch):
    refuse(monkeypatch, bubblewrap="the program bwrap is not installed", namespaces="unshare: Operation not permitted")
    with pytest.raises(ConfigError) as error:
        isolation.choose("auto")
    for part in ("bwrap is not installed", "namespaces: unshare: Operation not permitted", "apt install bubblewrap"):
        assert part in str(error.value)
    assert "sysctl" in str(error.value) and "--sandbox landlock" in str(error.value)
    assert isolation.choose("landlock") == "landlock"


@pytest.mark.parametrize("name", get_args(Backend))
def test_a_named_back_end_that_does_not_work_is_an_error_and_no_other_is_taken(monkeypatch, name):
    refuse(monkeypatch, **{name: "no such thing"})
    with pytest.raises(ConfigError, match=f"{name}: no such thing"):
        isolation.choose(name)


@pytest.mark.parametrize("name", ["docker", "", "none", "Landlock", "auto "])
def test_an_unknown_name_is_an_error(name):
    with pytest.raises(ConfigError, match="choose one of auto, bubblewrap, namespaces, landlock"):
        isolation.choose(name)


@pytest.mark.parametrize("system", ["Darwin", "Windows", "FreeBSD"])
def test_other_systems_are_refused(monkeypatch, system):
    monkeypatch.setattr(isolation.platform, "system", lambda: system)
    with pytest.raises(ConfigError, match=f"cannot be isolated on {system}"):
        isolation.choose("auto")


# Each makes a machine that isolates less than this one, by what it forbids itself and its children.
CHOOSE = """
import os, struct, sys
from qianwen.runtime.errors import ConfigError
from qianwen.sandbox import isolation, namespaces, privileges, seccomp
from qianwen.sandbox.process import Sandbox
from qianwen.sandbox.system_calls import checked, libc, system_call
def forbid_user_namespaces(inner_user):
    users = f"{inner_user} {os.getuid()} 1", f"{inner_user} {os.getgid()} 1"
    checked(libc.unshare(namespaces.NEWUSER), "unshare")
    for name, text in zip(("setgroups", "uid_map", "gid_map"), ("deny", *users)):
        open(f"/proc/self/{name}", "w").write(text)
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
def be_root_of_a_container():
    ready, unshared = os.pipe()
    helper, ours = os.fork(), os.getpid()
    if helper == 0:
        os.read(ready, 1)
        for name in ("uid_map", "gid_map"):
            open(f"/proc/{os.getppid()}/{name}", "w").write("0 0 65536")
        os._exit(0)
    checked(libc.unshare(namespaces.NEWUSER), "unshare")
    os.write(unshared, b"x")
    os.waitpid(helper, 0)
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
    usual = 0xA80425FB  # the capabilities of Docker's containers
    header = struct.pack("<Ii", privileges.CAPABILITY_VERSION_3, 0)
    system_call("capset", header, struct.pack("<6I", usual, usual, 0, 0, 0, 0))
    privileges.prctl(24, 21, what="PR_CAPBSET_DROP")  # so that a program that root starts does not get it again
def forbid_seccomp():
    privileges.prctl(privileges.PR_SET_NO_NEW_PRIVS, 1, what="no_new_privs")
    number = {"x86_64": 157, "aarch64": 167}[os.uname().machine]  # prctl
    head = [seccomp._load(seccomp.NUMBER), (seccomp.JUMP_IF_EQUAL, 0, 3, number), seccomp._load(seccomp.FIRST)]
    refused = [(seccomp.JUMP_IF_EQUAL, 0, 1, seccomp.PR_SET_SECCOMP), seccomp._give(seccomp.ERROR | 22)]
    seccomp.program = lambda *_: [*head, *refused, seccomp._give(seccomp.ALLOW)]
    seccomp.install(keep_attributes=False)
%s
for name in ("auto", "bubblewrap", "namespaces", "landlock"):
    try:
        print(name, isolation.choose(name), Sandbox(isolation.choose(name)).run_python("print(6 * 7)").stdout.strip())
    except ConfigError as error:
        print(name, "refused", str(error).replace("\\n", " "))
"""


def choices(machine: str, **settings) -> dict[str, str]:
    script = [sys.executable, "-c", CHOOSE % machine]
    done = subprocess.run(script, capture_output=True, text=True, cwd=Path(__file__).parents[2], **settings)
    if "unshare" in done.stderr:
        pytest.skip("user namespaces cannot be made here")
    assert not done.returncode, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


MACHINES = {"a user": "forbid_user_namespaces(1000); privileges.become(None)", "root": "be_root_of_a_container()"}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_where_user_namespaces_are_forbidden_only_landlock_runs_and_only_by_name(machine):
    """As in a container: an outer user namespace, in which no other can be made."""
    if "root" in machine and os.geteuid():
        pytest.skip("only root can make a user namespace with several users")
    found = choices(machine)
    for backend in ("auto", "bubblewrap", "namespaces"):
        assert found[backend].startswith("refused no sandbox works on this machine"), found
    assert "--sandbox landlock" in found["auto"] and "Install bubblewrap" in found["auto"]
    assert found["landlock"] == "landlock 42" or "Landlock has version" in found["landlock"]


@pytest.mark.parametrize("rights", ["", "; privileges.become(None)"])
def test_a_root_who_has_no_other_users_is_refused_or_contained(rights):
    found = choices(f"forbid_user_namespaces(0){rights}")
    for backend in get_args(Backend):
        assert found[backend].startswith("refused") or found[backend] == f"{backend} 42", found


def test_where_seccomp_is_refused_nothing_runs():
    for backend, result in choices("forbid_seccomp()").items():
        assert result.startswith("refused") and ("seccomp" in result or "bwrap" in result), (backend, result)


def test_without_bubblewrap_on_the_path_our_own_namespaces_are_used():
    if isolation.refusal("namespaces"):
        pytest.skip("namespaces do not work here")
    found = choices("os.environ['PATH'] = '/nowhere'")
    assert found["auto"] == found["namespaces"] == "namespaces 42"
    assert "the program bwrap is not installed" in found["bubblewrap"]


def test_an_ordinary_user_gets_the_same_back_ends():
    if os.geteuid():
        pytest.skip("this process is an ordinary user already")
    if subprocess.run(["test", "-x", os.path.realpath(sys.executable)], user=65534).returncode:
        pytest.skip("this Python is in a folder that only root can read")
    found = choices("", user=65534, group=65534, extra_groups=[])
    for backend in get_args(Backend):
        assert found[backend] == f"{backend} 42" or isolation.refusal(backend), found
