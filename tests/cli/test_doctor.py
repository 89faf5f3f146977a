"""`qianwen doctor` runs what it reports, and fails when a part that should work here does not."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

from qianwen.cli import doctor, doctor_compiled, doctor_packages, main
from qianwen.kernels.cpu import build, operators
from qianwen.kernels.cpu.build import family
from qianwen.runtime.errors import ConfigError
from qianwen.sandbox import isolation
from qianwen.sandbox.process import Sandbox
from qianwen.tokenizer import learner

PARTS = "from qianwen.cli import doctor; doctor.extras = lambda: iter(()); raise SystemExit(doctor.doctor([]))"


def run_doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    """All but the extras, in a process of its own: what is compiled is decided once in a process."""
    command = [sys.executable, "-c", PARTS]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_doctor_passes_a_machine_that_runs_the_tests(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    words = (platform.python_version(), "torch: ", "GFLOP/s", "writer, lock: ok", "Windows", "the same as NumPy's")
    for word in words if shutil.which("g++") else words[:-1]:
        assert word in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(build.library().path is None, reason="the kernels need AVX-512 VNNI and a C++ compiler")
def test_every_compiled_part_is_run():
    checks = {check.what: check for check in doctor_compiled.compiled()}
    assert "14 kernels agree with PyTorch" in checks["inference kernels"].result
    assert checks["tokenizer trainer"].ok and checks["shingler for deduplication"].ok
    training = checks["training kernels"]
    assert training.ok or build.family() is None


def test_a_compiler_that_fails_is_an_error_with_its_reason(tmp_path):
    compiler = tmp_path / "broken++"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "kernels.h:7:1: error: no such type" >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    done = run_doctor(CXX=str(compiler), QIANWEN_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    reason = f"{compiler} failed: kernels.h:7:1: error: no such type"
    assert f"✗ tokenizer trainer: {reason}" in done.stdout
    assert f"✗ shingler for deduplication: {reason}" in done.stdout
    assert (f"✗ inference kernels: {reason}" in done.stdout) == (build.family() is not None)


def test_a_compiler_that_does_not_start_is_an_error(tmp_path):
    done = run_doctor(CXX=shutil.which("false") or "false", QIANWEN_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "✗ C++ compiler: " in done.stdout and "false failed: exit status 1" in done.stdout


def test_kernels_that_are_switched_off_are_no_error(tmp_path):
    done = run_doctor(QIANWEN_KERNELS="0", QIANWEN_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "– tokenizer trainer: switched off by QIANWEN_KERNELS=0" in done.stdout
    assert "✗" not in done.stdout and not list(tmp_path.rglob("*.so"))


@pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")
def test_a_kernel_that_computes_other_numbers_is_an_error(monkeypatch):
    right = operators.rms_norm
    monkeypatch.setattr(operators, "rms_norm", lambda *args: 1.1 * right(*args))
    check = next(check for check in doctor_compiled.compiled() if check.what == "inference kernels")
    assert check.ok is False and check.result == "results differ from PyTorch: rms_norm (0.1)"


@pytest.mark.skipif(not learner.available(), reason="the learner needs a C++ compiler")
def test_a_learner_that_learns_other_tokens_is_an_error(monkeypatch):
    monkeypatch.setattr(doctor_compiled, "learn_tokens", lambda texts, number: [b"a"])
    check = next(check for check in doctor_compiled.compiled() if check.what == "tokenizer trainer")
    assert check.ok is False and "merges differ" in check.result


def test_a_folder_that_cannot_be_written_fails_the_check(monkeypatch, tmp_path):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))

    def torn(_folder):
        raise OSError("torn")

    monkeypatch.setattr(doctor, "_try_writer", torn)
    assert {check.ok for check in doctor.disk() if "torn" in check.result} == {False}
    assert main(["doctor"]) == 1


def test_a_missing_extra_comes_with_its_command(monkeypatch):
    monkeypatch.setattr(doctor_packages, "is_installed", lambda requirement: requirement.name == "markdown-it-py")
    monkeypatch.setitem(doctor_packages.USES, "markdown-it-py", "raise ImportError('libgone.so is not there')")
    found = {check.what: check for check in doctor.extras()}
    assert found["gguf"].ok is None and found["gguf"].result.startswith("pip install 'qianwen[gguf]'")
    assert found["ui"].ok is False and found["ui"].result == "markdown-it-py: ImportError: libgone.so is not there"


def test_every_use_of_a_package_is_of_one_that_an_extra_names():
    named = {requirement.name for group in doctor_packages.requirements().values() for requirement in group}
    assert set(doctor_packages.USES) <= named


def test_a_vocabulary_that_cannot_be_read_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("QIANWEN_VOCAB", str(tmp_path / "none.tiktoken"))
    assert doctor._vocabulary().ok is False


@pytest.mark.parametrize(("python", "refused"), [("3.11", False), ("2.7", True)])
def test_python_versions_are_read_from_the_dependencies(python, refused):
    assert bool(doctor._refusing(python)) is refused


def test_isolation_is_run_and_named():
    check = doctor._isolation()
    try:
        assert check.ok and check.result.startswith(f"{Sandbox.open().backend}; a program starts in ")
    except ConfigError as error:
        assert check.ok is None and check.result == str(error)


def test_isolation_is_refused_outside_linux(monkeypatch):
    monkeypatch.setattr(isolation.platform, "system", lambda: "Windows")
    check = doctor._isolation()
    assert check.ok is None and check.result == "programs cannot be isolated on Windows: Linux is needed"
