"""`qianwen doctor` checks, and says so when a check fails."""

import platform

import pytest

from qianwen.cli import doctor, main


def test_the_doctor_passes_a_machine_that_runs_the_tests(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for words in (
        platform.python_version(),
        "torch: ",
        "GFLOP/s",
        "writer, lock: ok",
        "Windows",
        "not here: fetched from",
    ):
        assert words in out
    assert not (tmp_path / "runs").exists() and not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_fails_the_check(monkeypatch, tmp_path):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))

    def torn(_folder):
        raise OSError("torn")

    monkeypatch.setattr(doctor, "_try_writer", torn)
    assert {check.ok for check in doctor.disk() if "torn" in check.found} == {False}
    assert main(["doctor"]) == 1


def test_a_missing_extra_comes_with_its_command(monkeypatch):
    monkeypatch.setattr(doctor, "_is_installed", lambda requirement: requirement.name != "gguf")
    found = {check.what: check for check in doctor.extras()}
    assert found["gguf"].ok is None and found["gguf"].found.startswith("pip install 'qianwen[gguf]'")
    assert found["ui"].ok is True


@pytest.mark.parametrize(("python", "refused"), [("3.11", False), ("2.7", True)])
def test_python_versions_are_read_from_the_dependencies(python, refused):
    assert bool(doctor._refusing(python)) is refused


def test_isolation_is_refused_outside_linux(monkeypatch):
    monkeypatch.setattr(doctor.sys, "platform", "win32")
    assert [check for check in doctor.programs() if "refused" in check.found]
