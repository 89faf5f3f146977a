import ctypes
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from qianwen.runtime import compiler
from qianwen.runtime.compiler import (
    SWITCH,
    NativeLibrary,
    compile_library,
    cpp_compiler,
    is_usable,
    native_library,
    prebuilt_path,
    zig_flags,
)

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
        patch.setattr(compiler, "compile_library", lambda *_: pytest.fail("compiled again"))
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
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    library = native_library("answer", sources)
    assert library.path is None and library.is_failure
    assert library.reason == "no C++ compiler was found; install g++, or pip install 'qianwen[compile]'"


def test_the_compiler_is_the_chosen_one_or_the_system_s_or_zig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "ccache g++")
    assert cpp_compiler() == ["ccache", "g++"]
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(shutil, "which", {"clang++": "/usr/bin/clang++"}.get)
    assert cpp_compiler() == ["/usr/bin/clang++"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "ziglang")
    assert cpp_compiler() == [sys.executable, "-m", "ziglang", "c++"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["-march=native", "-DA"], ["-mcpu=native", "-DA"]),
        (["-march=x86-64-v3", "-mavx512f", "-mamx-int8"], ["-mcpu=x86_64_v3+avx512f+amx_int8"]),
        (["-march=armv8.2-a+dotprod+fp16"], ["-mcpu=generic+v8_2a+dotprod+fullfp16"]),
        (["-march=armv8-a"], ["-mcpu=generic+v8a"]),
    ],
)
def test_zig_takes_a_processor_with_its_features(flags: list[str], expected: list[str]) -> None:
    assert zig_flags(flags) == expected


@needs_compiler
def test_a_prebuilt_library_is_used_while_its_sources_are_the_same(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    command = cpp_compiler()
    assert command
    prebuilt = prebuilt_path(sources, ["-DA"], "family")
    prebuilt.parent.mkdir()
    compile_library(command, sources, ["-march=native"], prebuilt)
    assert [path.name for path in prebuilt.parent.iterdir()] == [prebuilt.name], "no object files are left"
    monkeypatch.setenv("CXX", "no-such-compiler")
    library = native_library("answer", sources, ["-DA"], "family")
    assert library.path == prebuilt and ctypes.CDLL(str(prebuilt)).answer() == 42
    assert library.records and library.records.is_relative_to(tmp_path / "cache")
    assert not capsys.readouterr().out
    assert native_library("answer", sources, ["-DB"], "family").is_failure
    assert native_library("answer", sources, ["-DA"], "other").is_failure
    (sources / "answer.h").write_text("#define NUMBER 43\n")
    assert native_library("answer", sources, ["-DA"], "family").is_failure


def test_the_switch_forbids_it(sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv(SWITCH, "0")
    library = native_library("answer", sources)
    assert library == NativeLibrary(None, "switched off by QIANWEN_KERNELS=0")
    assert not is_usable(library, "it will be slow") and not capsys.readouterr().out
