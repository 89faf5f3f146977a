"""The compiled kernels, one library for each family of processors; which of them runs here.

A family is a set of instructions that the vectors in `kernels/vectors/` are written on. The best one of the processor
is used. `QIANWEN_KERNELS` forces another that it has, or switches all off with `0`: then PyTorch computes everything.
"""

import ctypes
import functools
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qianwen.runtime.compiler import SWITCH, NativeLibrary, native_library
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import atomic_file
from qianwen.runtime.processor import cpu_features
from qianwen.runtime.translation import tr

# Sums are written in the order that keeps them in registers; GCC would reorder those of integers.
FLAGS = ("-fno-tree-reassoc",)
SOURCES = Path(__file__).parents[1]
IN_TEST = "QIANWEN_KERNELS_IN_TEST"  # set in the process that tests a library, which must use it untested
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64: tiles are saved only on request


@dataclass(frozen=True)
class Family:
    """Instructions that go together."""

    name: str
    features: frozenset[str]  # as `cpu_features` spells them
    flags: tuple[str, ...]  # for the compiler, beside `FLAGS`

    @property
    def is_arm(self) -> bool:
        return self.name.startswith("neon")


def _x86(name: str, features: str, *flags: str) -> Family:
    return Family(name, frozenset(features.split()), ("-march=x86-64-v3", *flags))


_AVX512 = "avx2 fma f16c avx512f avx512bw avx512dq avx512vl"
_AVX512_FLAGS = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
_VNNI, _BF16 = "avx512_vnni", "avx512_bf16"
_AMX = f"{_AVX512} {_VNNI} {_BF16} amx_tile amx_int8 amx_bf16"
# The best first, of each architecture.
FAMILIES = (
    _x86("amx", _AMX, *_AVX512_FLAGS, "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"),
    _x86("avx512_bf16", f"{_AVX512} {_VNNI} {_BF16}", *_AVX512_FLAGS, "-mavx512vnni", "-mavx512bf16"),
    _x86("avx512_vnni", f"{_AVX512} {_VNNI}", *_AVX512_FLAGS, "-mavx512vnni"),
    _x86("avx512", _AVX512, *_AVX512_FLAGS),
    _x86("avx2_vnni", "avx2 fma f16c avx_vnni", "-mavxvnni"),
    _x86("avx2", "avx2 fma f16c"),
    Family("neon_i8mm", frozenset({"asimddp", "i8mm"}), ("-march=armv8.2-a+dotprod+fp16+i8mm",)),
    Family("neon", frozenset({"asimddp"}), ("-march=armv8.2-a+dotprod+fp16",)),
)
NAMES = tuple(family.name for family in FAMILIES)


def available_families() -> list[Family]:
    """The families that this processor has, the best first."""
    return [each for each in FAMILIES if each.features <= cpu_features() and (each.name != "amx" or _may_use_tiles())]


@functools.cache
def family() -> Family | None:
    """The family whose kernels run here: the best, or the one that `QIANWEN_KERNELS` names; None without any.

    Raises ConfigError for a name that does not exist or that this processor lacks.
    """
    here, wanted = available_families(), os.environ.get(SWITCH, "")
    if wanted == "0":
        return None
    if not wanted:
        return here[0] if here else None
    for each in here:
        if each.name == wanted:
            return each
    names = ", ".join(["0", *(each.name for each in here)])
    message = "{switch} = {value}: this processor has no such kernels; choose one of {names}"
    raise ConfigError(tr(message, switch=SWITCH, value=wanted, names=names))


@functools.cache
def library() -> NativeLibrary:
    """The compiled kernels, compiled and tested at first use, or why they cannot run here."""
    chosen = family()
    if chosen is None:
        switched_off = os.environ.get(SWITCH) == "0"
        reason = tr("switched off by {switch}=0", switch=SWITCH) if switched_off else tr("not for this processor")
        return NativeLibrary(None, reason)
    built = native_library("kernels", SOURCES, [*FLAGS, *chosen.flags], chosen.name)
    if built.records is None or os.environ.get(IN_TEST):
        return built
    if failures := _test_results(built.records):
        reason = tr("the self-test failed: {failures}", failures="; ".join(failures))
        return NativeLibrary(None, reason, is_failure=True)
    return built


def _test_results(records: Path) -> list[str]:
    """What `self_test.py` found wrong with a library, kept in `records`: it is tested once."""
    kept = records / "self_test.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "qianwen.kernels.self_test"]
    run = subprocess.run(command, env={**os.environ, IN_TEST: "1"}, capture_output=True, text=True)
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or [""]
        failures = [tr("it ended with status {status} {error}", status=run.returncode, error=last[0])]
    else:
        failures = json.loads(run.stdout.strip().splitlines()[-1])
    with suppress(OSError), atomic_file(kept, "w") as file:  # a cache that cannot be written: tested at every start
        json.dump(failures, file)
    return failures


def family_name() -> str:
    """The name of the family that runs here, or nothing."""
    chosen = family()
    return chosen.name if chosen else ""


def may_use_amx() -> bool:
    """Whether the kernels that run here multiply tiles."""
    return family_name() == "amx"


def has_bfloat16_products() -> bool:
    """Whether the kernels that run here multiply bfloat16 faster than fp32."""
    return family_name() in ("amx", "avx512_bf16")


@functools.cache
def _may_use_tiles() -> bool:
    """Whether Linux grants tiles to this process, from now on."""
    return sys.platform == "linux" and ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0
