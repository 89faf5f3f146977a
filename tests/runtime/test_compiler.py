import ctypes
import shutil
from pathlib import Path

import pytest

from qianwen.runtime import compiler
from qianwen.runtime.compiler import SWITCH, NativeLibrary, is_usable, native_library

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
    first = native_library("answer", sources)
    assert first.path and not first.reason and ctypes.CDLL(str(first.path)).answer() == 42
    assert "compiling the answer" in capsys.readouterr().out
    assert native_library("answer", sources) == first and is_usable(first, "slow")
    assert not capsys.readouterr().out
    (sources / "answer.h").write_text("#define NUMBER 43\n")
    second = native_library("answer", sources)
    assert second.path and ctypes.CDLL(str(second.path)).answer() == 43
    third = native_library("answer", sources, ["-DOTHER"])
    assert len({first, second, third}) == 3


@needs_compiler
def test_sources_that_do_not_compile_are_explained_and_leave_nothing(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (sources / "answer.h").write_text("#define NUMBER fortytwo\n")
    library = native_library("answer", sources)
    assert library.path is None and library.is_failure
    assert "error:" in library.reason and "fortytwo" in library.reason and "\n" not in library.reason
    capsys.readouterr()
    assert not is_usable(library, "it will be slow")
    assert capsys.readouterr().out == f"it will be slow: {library.reason}\n"
    assert not list((tmp_path / "cache").rglob("*.so"))


@needs_compiler
def test_what_failed_is_not_compiled_again_until_something_changes(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sources / "answer.h").write_text("#define NUMBER fortytwo\n")
    first = native_library("answer", sources)
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
        second = native_library("answer", sources)
    assert first.is_failure and second.is_failure and "try again" in second.reason and "fortytwo" in second.reason
    (sources / "answer.h").write_text("#define NUMBER 42\n")
    assert native_library("answer", sources).path


def test_a_compiler_that_fails_is_explained(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false = shutil.which("false") or "false"
    monkeypatch.setenv("CXX", false)
    assert native_library("answer", sources) == NativeLibrary(None, f"{false} failed: exit status 1", is_failure=True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "No such file" in native_library("answer", sources).reason


def test_a_missing_compiler_is_explained(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    library = native_library("answer", sources)
    assert library.path is None and library.is_failure and "install g++" in library.reason


def test_the_switch_forbids_it(sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv(SWITCH, "0")
    library = native_library("answer", sources)
    assert library == NativeLibrary(None, "switched off by QIANWEN_KERNELS=0")
    assert not is_usable(library, "it will be slow") and not capsys.readouterr().out
