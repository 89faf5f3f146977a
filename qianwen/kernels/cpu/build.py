"""The compiled kernels, where the processor has what they need.

AMX is used where the processor has it and Linux lets this process use it. `QIANWEN_KERNELS` holds back: `avx512` does
without AMX, `0` without any kernel. Without them everything runs on PyTorch.
"""

import ctypes
import functools
import os
from pathlib import Path

from qianwen.runtime.compiler import SWITCH, NativeLibrary, native_library
from qianwen.runtime.processor import cpu_features
from qianwen.runtime.translation import tr

REQUIRED_FEATURES = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")
AMX_FEATURES = ("amx_tile", "amx_int8", "amx_bf16", "avx512_bf16")
WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64: tiles are saved only for who asks


@functools.cache
def library() -> NativeLibrary:
    """The compiled kernels, or why they cannot run here."""
    missing = [name for name in REQUIRED_FEATURES if name not in cpu_features()]
    if missing:
        return NativeLibrary(None, tr("not for this processor, which lacks {features}", features=", ".join(missing)))
    flags = ["-fopenmp", *(() if may_use_amx() else WITHOUT_AMX)]
    return native_library("kernels", Path(__file__).parent, flags)


def family() -> str:
    """What processors the kernels in use are made for."""
    return "AMX" if may_use_amx() else "AVX-512 VNNI"


@functools.cache
def may_use_amx() -> bool:
    """Whether the processor has tiles, nobody holds them back, and Linux grants them to this process from now on."""
    if os.environ.get(SWITCH) == "avx512" or not cpu_features().issuperset(AMX_FEATURES):
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0
