"""Which device computes, in which number format, and how much memory it takes.

bfloat16 is chosen only where the hardware multiplies it. Elsewhere it is emulated, and slower than float32.
"""

import functools
import platform
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import torch

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


@functools.cache
def cpu_features() -> frozenset[str]:
    """Instruction-set flags as the Linux kernel spells them; elsewhere what the system tells, in the same spelling."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, flags = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(flags.split())
        return frozenset()
    if sys.platform == "darwin":
        listing = subprocess.run(["sysctl", "hw.optional"], capture_output=True, text=True, check=False).stdout
        on = [line.split(":")[0] for line in listing.splitlines() if line.endswith(": 1")]
        return frozenset(name.removeprefix("hw.optional.").removeprefix("arm.FEAT_").lower() for name in on)
    return frozenset(torch.backends.cpu.get_cpu_capability().lower().split())


def cpu_name() -> str:
    """The processor's marketing name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def seed_everything(seed: int) -> None:
    """Seed every global generator in use: Python, NumPy, torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def memory_in_use_bytes() -> int:
    """Resident memory of this process now."""
    return psutil.Process().memory_info().rss


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
    """What programs may still take on `device`: of the GPU's memory, or of the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
