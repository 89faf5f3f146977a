"""The check of a back-end sees each way out that is open."""

import os
import subprocess
import sys

import pytest

from qianwen.sandbox import execution, running, self_check


def run_outside(program: str, text: str) -> execution.Execution:
    """The same program without any isolation."""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], input=text.encode(), capture_output=True)
    output = (done.stdout, done.stderr)
    return execution.Execution(
        exit_code=done.returncode, ended_by=None, cpu_seconds=0, wall_seconds=0, output=output, is_cut=False
    )


def test_without_isolation_every_way_is_found_open(tmp_path, monkeypatch):
    (tmp_path / "canary").write_text("secret")
    monkeypatch.chdir(tmp_path)
    program = self_check.PROBE.replace("/usr/qianwen-sandbox", str(tmp_path / "system"))
    verdict = self_check.verdict(run_outside(program, f"{tmp_path / 'canary'} {os.getpid()}"))
    assert verdict == (
        "a program inside can read files of yours, write files of yours, read your environment, write to the system, "
        "open a socket, send signals to other processes"
    )


@pytest.mark.parametrize("way", ["read", "socket", "signal"])
def test_a_single_open_way_is_named(way):
    verdict = self_check.verdict(run_outside(f"print('{way}')", ""))
    assert verdict.startswith("a program inside can ") and "," not in verdict


def test_a_program_that_cannot_work_inside_is_a_reason_too():
    assert self_check.verdict(run_outside("import nothing", "")).endswith("No module named 'nothing'")
    assert self_check.verdict(run_outside("raise SystemExit(3)", "")) == "the test program failed: exit status 3"


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setattr(running.shutil, "which", lambda name: None)
    assert self_check.check("bubblewrap") == "the program bwrap is not installed"


@pytest.mark.parametrize("backend", ["namespaces", "bubblewrap"])
def test_a_kernel_that_refuses_namespaces_is_quoted(backend):
    """A process that may make no namespaces, as in many containers: the reason is the kernel's, in words."""
    if os.geteuid() != 0:
        pytest.skip("taking away the right to make namespaces needs root")
    program = (
        "import ctypes, os, struct\n"
        "from qianwen.sandbox import privileges, self_check, seccomp\n"
        "seccomp.DENIED = ('unshare', 'mount', 'pivot_root')\n"
        "privileges.become(None); seccomp.install(keep_attributes=False)\n"
        f"print(self_check.check('{backend}'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    assert "not permitted" in done.stdout, done
