"""Which device computes, in which number format, and how much memory it takes.

bfloat16 is chosen only where the hardware multiplies it. Elsewhere it is emulated, and slower than float32.
"""

import ctypes
import gc
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from qianwen.runtime.memory_limits import limited_bytes
from qianwen.runtime.processor import cpu_features

BF16_FEATURES = frozenset(
    {"amx_bf16", "avx512_bf16", "bf16"}
)  # Intel tiles, AVX-512, Arm: as /proc/cpuinfo spells them


def best_device() -> torch.device:
    """The fastest device of this machine: CUDA, then an Apple GPU, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where `device` has instructions for it (CUDA ≥ 8.0, AMX, AVX512-BF16, Arm bf16), else float32."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and bool(cpu_features() & BF16_FEATURES)
    return torch.bfloat16 if native else torch.float32


def seed_everything(seed: int) -> None:
    """Seed every global generator in use: Python, NumPy, torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Compute with `count` threads inside: sums that are split otherwise round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_in_use_bytes() -> int:
    """Resident memory of this process now."""
    return psutil.Process().memory_info().rss


def return_free_memory() -> None:
    """Give back to the system what was freed. C libraries keep it for later, also when that is of another size."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc can be asked to
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_bytes() -> int:
    """The most resident memory this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():  # not ru_maxrss: Linux starts it at the parent's memory
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory_bytes(device: torch.device) -> int:
    """What this program may still take on `device`: of the GPU's memory, or of the machine's within its limits."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return max(min(psutil.virtual_memory().available, *limited_bytes()), 0)
