"""Parts in C++, compiled with the system's compiler at first use, once for each version of them and kind of processor.

The result lies in the cache folder under a hash of the sources, the compiler and the processor's features, so an update
or another machine on the same home folder builds its own. It takes some seconds. Where it cannot be done,
`native_library` says why, and what calls it has another way. `QIANWEN_KERNELS=0` forbids it.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from qianwen.runtime.files import atomic_folder, cache_dir
from qianwen.runtime.log import console
from qianwen.runtime.processor import cpu_features
from qianwen.runtime.translation import tr

SWITCH = "QIANWEN_KERNELS"
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-fvisibility=hidden")
# An erratum of some x86 processors slows down branches that touch a 32-byte edge; GNU's assembler keeps them off.
ASSEMBLER_FLAG = "-Wa,-mbranches-within-32B-boundaries"


def native_library(name: str, sources: Path, without: str, flags: Sequence[str] = ()) -> Path | None:
    """The shared library of all `*.cpp` in the folder `sources`; None, and a line that says `without`, if it fails.

    `name`: of its folder in the cache. `flags`: for the compiler, beside `FLAGS`.
    """
    if os.environ.get(SWITCH) == "0":
        return None
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        console.print(tr("{without}: no C++ compiler was found; install g++", without=without), style="yellow")
        return None
    try:
        return _compiled(name, sources, [compiler, *FLAGS, *flags])
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip()[-500:] if isinstance(error, subprocess.CalledProcessError) else str(error)
        message = tr("{without}: {compiler} failed: {reason}", without=without, compiler=compiler, reason=reason)
        console.print(message, style="yellow")
        return None


def _compiled(name: str, sources: Path, command: list[str]) -> Path:
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True).stdout
    if "Free Software Foundation" in version and "avx" in cpu_features():
        command = [*command, ASSEMBLER_FLAG]
    files = sorted(path for path in sources.rglob("*") if path.suffix in (".h", ".cpp"))
    digest = hashlib.sha256("\0".join([version, *command, *sorted(cpu_features())]).encode())
    for path in files:
        digest.update(path.read_bytes())
    folder = cache_dir() / name / digest.hexdigest()[:20]
    library = folder / f"{name}.so"
    if not library.exists():
        console.print(tr("compiling the {name} for this processor; this happens once …", name=name))
        with atomic_folder(folder) as temporary:
            _compile(command, [path for path in files if path.suffix == ".cpp"], temporary / library.name)
    return library


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
