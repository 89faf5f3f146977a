"""Parts in C++, compiled with the system's compiler at first use, once for each version of them and kind of processor.

The library is kept in the cache folder under a hash of the sources, the compiler and the processor's features, so an
update or another machine with the same home folder builds its own. It takes some seconds. Where there is none,
`NativeLibrary.reason` says why, and the caller computes in another way. `QIANWEN_KERNELS=0` switches all of them off.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from qianwen.runtime.files import atomic_folder, cache_dir
from qianwen.runtime.log import console
from qianwen.runtime.processor import cpu_features
from qianwen.runtime.translation import tr

SWITCH = "QIANWEN_KERNELS"
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-fvisibility=hidden")
# An erratum of some x86 processors slows down branches that touch a 32-byte edge; GNU's assembler keeps them off.
ASSEMBLER_FLAG = "-Wa,-mbranches-within-32B-boundaries"


class NativeLibrary(NamedTuple):
    """A compiled part, or the reason why there is none."""

    path: Path | None
    reason: str = ""  # in the user's language; empty where there is a path
    is_failure: bool = False  # it should work on this machine: the compiler is missing, or failed


def native_library(name: str, sources: Path, flags: Sequence[str] = ()) -> NativeLibrary:
    """The shared library of all `*.cpp` in the folder `sources`, compiled if it is not in the cache. Prints no warning.

    `name`: of its folder in the cache. `flags`: for the compiler, beside `FLAGS`.
    """
    if os.environ.get(SWITCH) == "0":
        return NativeLibrary(None, tr("switched off by {switch}=0", switch=SWITCH))
    compiler = cpp_compiler()
    if compiler is None:
        return NativeLibrary(None, tr("no C++ compiler was found; install g++"), is_failure=True)
    try:
        return _compiled(name, sources, [compiler, *FLAGS, *flags])
    except OSError as error:
        return NativeLibrary(None, tr("{compiler} failed: {error}", compiler=compiler, error=error), is_failure=True)
    except subprocess.CalledProcessError as error:
        reason = tr("{compiler} failed: {error}", compiler=compiler, error=_first_error(error))
        return NativeLibrary(None, reason, is_failure=True)


def is_usable(library: NativeLibrary, without: str) -> bool:
    """Whether there is a library. After a failure one line on the console says `without` and the reason."""
    if library.is_failure:
        console.print(f"{without}: {library.reason}", style="yellow", markup=False)
    return library.path is not None


def cpp_compiler() -> str | None:
    """The compiler's command: `CXX`, g++ or clang++."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


def _first_error(error: subprocess.CalledProcessError) -> str:
    """The line a person should read first of what a compiler printed."""
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line and not line.startswith("collect2")]
    return next(iter(errors or lines), tr("exit status {status}", status=error.returncode))


def _compiled(name: str, sources: Path, command: list[str]) -> NativeLibrary:
    """From the cache or compiled now. Sources that this compiler refused before are not tried again."""
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True).stdout
    if "Free Software Foundation" in version and "avx" in cpu_features():
        command = [*command, ASSEMBLER_FLAG]
    files = sorted(path for path in sources.rglob("*") if path.suffix in (".h", ".cpp"))
    digest = hashlib.sha256("\0".join([version, *command, *sorted(cpu_features())]).encode())
    for path in files:
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
                _compile(command, [path for path in files if path.suffix == ".cpp"], temporary / library.name)
        except subprocess.CalledProcessError as error:
            with suppress(OSError):
                failed.write_text(_first_error(error), encoding="utf-8")
            raise
    return NativeLibrary(library)


def _compile(command: list[str], sources: list[Path], library: Path) -> None:
    """All sources at once, then the library of them."""
    objects = [library.with_name(f"{path.stem}.o") for path in sources]
    running = [
        subprocess.Popen([*command, "-c", source, "-o", target], stderr=subprocess.PIPE, text=True)
        for source, target in zip(sources, objects, strict=True)
    ]
    for process in running:
        _, errors = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    subprocess.run([*command, "-shared", *objects, "-o", library], capture_output=True, text=True, check=True)
    for path in objects:
        path.unlink()
