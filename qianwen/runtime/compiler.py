"""Parts in C++: brought compiled by a wheel, or compiled at first use, once for each version and kind of processor.

    prebuilt   in the folder `prebuilt` beside the sources, if it was made from these sources with these flags
    compiled   with `CXX`, g++, clang++, or zig from the package `ziglang` (`pip install 'qianwen[compile]'`)

What is compiled is kept in the cache folder under a hash of the sources, the compiler and the processor's features, so
an update or another machine with the same home folder builds its own. It takes some seconds. Where there is none,
`NativeLibrary.reason` says why, and the caller computes in another way. `QIANWEN_KERNELS=0` switches all of them off.
"""

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from qianwen.runtime.files import atomic_folder, cache_dir
from qianwen.runtime.log import console
from qianwen.runtime.processor import cpu_features
from qianwen.runtime.translation import tr

SWITCH = "QIANWEN_KERNELS"
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden")
NATIVE = "-march=native"  # unless the caller names a processor
GNU_FLAGS = ("-fno-tree-reassoc",)  # unknown to other compilers
# An erratum of some x86 processors slows down branches that touch a 32-byte edge; GNU's assembler keeps them off.
ASSEMBLER_FLAG = "-Wa,-mbranches-within-32B-boundaries"
# Functions of PyTorch's OpenMP runtime are found when a library is loaded; macOS's linker must be told so.
LINK_FLAGS = ("-shared", *(["-Wl,-undefined,dynamic_lookup"] if sys.platform == "darwin" else ["-s"]))


class NativeLibrary(NamedTuple):
    """A compiled part, or the reason why there is none."""

    path: Path | None
    reason: str = ""  # in the user's language; empty where there is a path
    is_failure: bool = False  # it should work on this machine: the compiler is missing, or failed
    records: Path | None = None  # folder for what is measured of this library on this kind of processor


def native_library(name: str, sources: Path, flags: Sequence[str] = (), variant: str = "") -> NativeLibrary:
    """The library of all `*.cpp` in the folder `sources`: prebuilt, from the cache, or compiled. Prints no warning.

    `name`: of its folder in the cache. `flags`: for the compiler, beside `FLAGS`. `variant`: name of the prebuilt one.
    """
    if os.environ.get(SWITCH) == "0":
        return NativeLibrary(None, tr("switched off by {switch}=0", switch=SWITCH))
    prebuilt = prebuilt_path(sources, flags, variant or name)
    if prebuilt.exists():
        digest = hashlib.sha256(" ".join(sorted(cpu_features())).encode() + prebuilt.read_bytes())
        return NativeLibrary(prebuilt, records=cache_dir() / name / digest.hexdigest()[:20])
    compiler = cpp_compiler()
    if compiler is None:
        message = "no C++ compiler was found; install g++, or pip install 'qianwen[compile]'"
        return NativeLibrary(None, tr(message), is_failure=True)
    try:
        return _compiled(name, sources, compiler, flags)
    except OSError as error:
        reason = tr("{compiler} failed: {error}", compiler=shlex.join(compiler), error=error)
    except subprocess.CalledProcessError as error:
        reason = tr("{compiler} failed: {error}", compiler=shlex.join(compiler), error=_first_error(error))
    return NativeLibrary(None, reason, is_failure=True)


def is_usable(library: NativeLibrary, without: str) -> bool:
    """Whether there is a library. After a failure one line on the console says `without` and the reason."""
    if library.is_failure:
        console.print(f"{without}: {library.reason}", style="yellow", markup=False)
    return library.path is not None


def cpp_compiler() -> list[str] | None:
    """The compiler's command: `CXX`, g++, clang++, or zig of the package `ziglang`."""
    if chosen := os.environ.get("CXX"):
        return [chosen] if shutil.which(chosen) else shlex.split(chosen)
    if system := shutil.which("g++") or shutil.which("clang++"):
        return [system]
    return [sys.executable, "-m", "ziglang", "c++"] if importlib.util.find_spec("ziglang") else None


def prebuilt_path(sources: Path, flags: Sequence[str], variant: str) -> Path:
    """Where a wheel has the library of exactly these sources and flags."""
    digest = hashlib.sha256("\0".join([*FLAGS, *flags]).encode())
    for path in _source_files(sources):
        digest.update(path.read_bytes())
    return sources / "prebuilt" / f"{variant}-{digest.hexdigest()[:20]}.so"


def compile_library(compiler: Sequence[str], sources: Path, flags: Sequence[str], library: Path) -> None:
    """Compile all `*.cpp` of `sources` into `library`. Raises CalledProcessError with what the compiler printed."""
    command = _command(compiler, _version(compiler), flags)
    files = [path for path in _source_files(sources) if path.suffix == ".cpp"]
    objects = [library.with_name(f"{path.stem}.o") for path in files]
    running = [
        subprocess.Popen([*command, "-c", source, "-o", target], stderr=subprocess.PIPE, text=True)
        for source, target in zip(files, objects, strict=True)
    ]
    for process in running:
        _, errors = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    subprocess.run([*command, *LINK_FLAGS, *objects, "-o", library], capture_output=True, text=True, check=True)
    for path in objects:
        path.unlink()


def _source_files(sources: Path) -> list[Path]:
    return sorted(path for path in sources.rglob("*") if path.suffix in (".h", ".cpp"))


def _version(compiler: Sequence[str]) -> str:
    return subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout


def _command(compiler: Sequence[str], version: str, flags: Sequence[str]) -> list[str]:
    """The compiler with all flags."""
    if not any(flag.startswith("-march=") for flag in flags):
        flags = [NATIVE, *flags]
    if "Free Software Foundation" not in version:
        flags = [flag for flag in flags if flag not in GNU_FLAGS]
    elif "avx" in cpu_features():
        flags = [*flags, ASSEMBLER_FLAG]
    if any(Path(word).name in ("zig", "ziglang") for word in compiler):
        flags = zig_flags(flags)
    return [*compiler, *FLAGS, *flags]


def zig_flags(flags: Sequence[str]) -> list[str]:
    """The same flags for zig, which takes a processor and all its features at once, by LLVM's names."""
    arm_names = {"fp16": "fullfp16"}
    processor, features, rest = "native", [], []
    for flag in flags:
        if match := re.fullmatch(r"-march=armv(8(?:\.\d)?)-a((?:\+\w+)*)", flag):
            names = match[2].split("+")[1:]
            processor, features = "generic", [f"v{match[1].replace('.', '_')}a", *(arm_names.get(n, n) for n in names)]
        elif flag.startswith("-march="):
            processor = flag.removeprefix("-march=").replace("-", "_")
        elif flag.startswith("-m"):
            features.append(flag.removeprefix("-m").replace("-", "_"))
        else:
            rest.append(flag)
    return ["-mcpu=" + "+".join([processor, *features]), *rest]


def _first_error(error: subprocess.CalledProcessError) -> str:
    """The line a person should read first of what a compiler printed."""
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line and not line.startswith("collect2")]
    return next(iter(errors or lines), tr("exit status {status}", status=error.returncode))


def _compiled(name: str, sources: Path, compiler: Sequence[str], flags: Sequence[str]) -> NativeLibrary:
    """From the cache or compiled now. Sources that this compiler refused before are not tried again."""
    version = _version(compiler)
    command = _command(compiler, version, flags)
    digest = hashlib.sha256("\0".join([version, *command, *LINK_FLAGS, *sorted(cpu_features())]).encode())
    for path in _source_files(sources):
        digest.update(path.read_bytes())
    folder = cache_dir() / name / digest.hexdigest()[:20]
    library = folder / f"{name}.so"
    failed = folder.with_name(f"{folder.name}.failed")
    if failed.exists():
        message = "{reason} (at an earlier start; delete {path} to try again)"
        reason = tr(message, reason=failed.read_text(encoding="utf-8"), path=failed)
        return NativeLibrary(None, reason, is_failure=True)
    if not library.exists():
        console.print(tr("compiling the {name} for this processor; this happens once …", name=name))
        try:
            with atomic_folder(folder) as temporary:
                compile_library(compiler, sources, flags, temporary / library.name)
        except subprocess.CalledProcessError as error:
            with suppress(OSError):
                failed.write_text(_first_error(error), encoding="utf-8")
            raise
    return NativeLibrary(library, records=folder)
