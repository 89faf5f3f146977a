"""Compiles the kernels with the system's C++ compiler, once for each version of them and kind of processor.

AMX is used where the processor has it and Linux lets this process use it. `QIANWEN_KERNELS` holds back: `avx512` does
without AMX, `0` without any kernel.

The result lies in the cache folder under a hash of the sources, the compiler and the processor's features, so an update
or another machine on the same home folder builds its own. It takes some seconds. Where it cannot be done, `library`
says why and everything runs on PyTorch.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from qianwen.runtime.device import cpu_features
from qianwen.runtime.files import atomic_folder, cache_dir
from qianwen.runtime.language import tr
from qianwen.runtime.log import console

SOURCES = Path(__file__).parent
REQUIRED_FEATURES = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")
LIBRARY = "kernels.so"
SWITCH = "QIANWEN_KERNELS"  # 0: use PyTorch alone; avx512: no AMX
AMX_FEATURES = ("amx_tile", "amx_int8", "amx_bf16", "avx512_bf16")
WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64: tiles are saved only for who asks
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-fvisibility=hidden")
# An erratum of this processor family slows down branches that touch a 32-byte edge; GNU's assembler keeps them off.
ASSEMBLER_FLAG = "-Wa,-mbranches-within-32B-boundaries"


@functools.cache
def library() -> Path | None:
    """The compiled kernels, or None where they cannot run or be compiled."""
    if os.environ.get(SWITCH) == "0" or not cpu_features().issuperset(REQUIRED_FEATURES):
        return None
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        console.print(tr("quantised models will be slow: no C++ compiler was found; install g++"), style="yellow")
        return None
    try:
        return compiled(compiler)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip()[-500:] if isinstance(error, subprocess.CalledProcessError) else str(error)
        message = tr("quantised models will be slow: {compiler} failed: {reason}", compiler=compiler, reason=reason)
        console.print(message, style="yellow")
        return None


@functools.cache
def may_use_amx() -> bool:
    """Whether the processor has tiles, nobody holds them back, and Linux grants them to this process from now on."""
    if os.environ.get(SWITCH) == "avx512" or not cpu_features().issuperset(AMX_FEATURES):
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0


def compiled(compiler: str) -> Path:
    """The library made by `compiler`, from the cache if it is there."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    flags = [*FLAGS, *(() if may_use_amx() else WITHOUT_AMX)]
    flags += [ASSEMBLER_FLAG] if "Free Software Foundation" in version else []
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".h", ".cpp"))
    digest = hashlib.sha256("\0".join([version, *flags, *sorted(cpu_features())]).encode())
    for path in files:
        digest.update(path.read_bytes())
    folder = cache_dir() / "kernels" / digest.hexdigest()[:20]
    if not (folder / LIBRARY).exists():
        console.print(tr("compiling the kernels for this processor; this happens once …"))
        with atomic_folder(folder) as temporary:
            _compile([compiler, *flags], [path for path in files if path.suffix == ".cpp"], temporary)
    return folder / LIBRARY


def _compile(command: list[str], sources: list[Path], folder: Path) -> None:
    """All sources at once, then the library of them."""
    objects = [folder / f"{path.stem}.o" for path in sources]
    running = [
        subprocess.Popen([*command, "-c", source, "-o", target], stderr=subprocess.PIPE, text=True)
        for source, target in zip(sources, objects, strict=True)
    ]
    for process in running:
        _, errors = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, stderr=errors)
    subprocess.run([*command, "-shared", *objects, "-o", folder / LIBRARY], capture_output=True, text=True, check=True)
    for path in objects:
        path.unlink()
