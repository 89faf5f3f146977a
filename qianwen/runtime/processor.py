"""What the processor is and can do, without importing torch, which takes a second."""

import functools
import platform
import subprocess
import sys
from pathlib import Path

LINUX_NAMES = {"advsimd": "asimd", "neon": "asimd", "dotprod": "asimddp"}  # by the names of macOS, in small letters


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
        return macos_features(listing)
    import torch

    return frozenset(torch.backends.cpu.get_cpu_capability().lower().split())


def macos_features(listing: str) -> frozenset[str]:
    """The features that `sysctl hw.optional` lists as present, as the Linux kernel spells them."""
    present = [line.split(":")[0] for line in listing.splitlines() if line.endswith(": 1")]
    names = [name.rpartition(".")[2].removeprefix("FEAT_").lower() for name in present]
    return frozenset(LINUX_NAMES.get(name, name) for name in names)


def cpu_name() -> str:
    """The processor's marketing name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
