import ctypes
import shutil
from pathlib import Path

import pytest

from qianwen.runtime.compiler import SWITCH, native_library

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler to try"
)
ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() { return %s; }\n'


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "answer.cpp").write_text('#include "answer.h"\n' + ANSWER % "NUMBER")
    (folder / "answer.h").write_text("#define NUMBER 42\n")
    return folder


@needs_compiler
def test_a_library_is_compiled_once_for_each_version_of_its_sources(
    sources: Path, capsys: pytest.CaptureFixture
) -> None:
    first = native_library("answer", sources, "slow")
    assert first is not None and ctypes.CDLL(str(first)).answer() == 42
    assert "compiling the answer" in capsys.readouterr().out
    assert native_library("answer", sources, "slow") == first and not capsys.readouterr().out
    (sources / "answer.h").write_text("#define NUMBER 43\n")
    second = native_library("answer", sources, "slow")
    assert second is not None and ctypes.CDLL(str(second)).answer() == 43
    third = native_library("answer", sources, "slow", ["-DOTHER"])
    assert len({first, second, third}) == 3


@needs_compiler
def test_sources_that_do_not_compile_are_explained_and_leave_nothing(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (sources / "answer.h").write_text("#define NUMBER fortytwo\n")
    assert native_library("answer", sources, "it will be slow") is None
    said = capsys.readouterr().out
    assert "it will be slow" in said and "fortytwo" in said
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_a_compiler_that_fails_is_explained(
    sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("CXX", shutil.which("false") or "false")
    assert native_library("answer", sources, "it will be slow") is None
    assert "false failed" in capsys.readouterr().out


def test_a_missing_compiler_is_explained(
    sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert native_library("answer", sources, "it will be slow") is None
    assert "install g++" in capsys.readouterr().out


def test_the_switch_forbids_it(sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv(SWITCH, "0")
    assert native_library("answer", sources, "it will be slow") is None
    assert not capsys.readouterr().out
