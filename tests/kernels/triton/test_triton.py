"""Triton's compiler makes machine code of the kernels for Ampere and Hopper, on a machine without a GPU too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton has no wheel for this system")

PROGRAM = """
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from qianwen.kernels.triton import packed_linears
from qianwen.kernels.triton.paged_attention import FEW_ROWS, KEYS, ROWS, _attend, _merge


def compiled(kernel, capability, types, constants):
    # Lengths, strides and counts are the arguments that are left, and constants have names in capitals.
    kinds = {name: "constexpr" if name.isupper() else types.get(name, "i32") for name in kernel.arg_names}
    indices = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    made = triton.compile(ASTSource(kernel, kinds, indices), target=GPUTarget("cuda", capability, 32))
    assert made.asm["cubin"] and made.metadata.shared <= 99 << 10


capability, kinds, formats = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3].split(",")
for kind in kinds:
    for is_shared in (False, True):
        types = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr"), "*" + kind)
        types |= {"out_ptr": "*fp32" if is_shared else "*" + kind, "scale": "fp32"}
        types |= dict.fromkeys(("largest_ptr", "total_ptr"), "*fp32")
        types |= dict.fromkeys(("tables_ptr", "contexts_ptr", "starts_ptr"), "*i32")
        constants = {"HEADS": 2, "GROUP": 7, "SIZE": 64, "PADDED": 64, "PAGE": 32, "KEYS": KEYS}
        constants |= {"HAS_WINDOW": is_shared, "IS_SHARED": is_shared, "ROWS": FEW_ROWS if is_shared else ROWS}
        constants["PRECISION"] = "ieee" if kind == "fp32" else "tf32"
        compiled(_attend, capability, types, constants)
types = dict.fromkeys(("weighted_ptr", "largest_ptr", "total_ptr"), "*fp32") | {"out_ptr": "*bf16"}
compiled(_merge, capability, types, {"SIZE": 64, "PADDED": 64})
for format in formats:
    layout = packed_linears._layout(packed_linears.FORMATS[format], 896)[1]
    types = {"x_ptr": "*bf16", "packed_ptr": "*u8", "bias_ptr": "*fp32", "out_ptr": "*bf16"}
    compiled(packed_linears._few_rows, capability, types, layout | {"HAS_BIAS": True})
    compiled(packed_linears._unpack, capability, types, layout)
"""


def compile_for(capability: int, kinds: str, formats: str, cache: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-c", PROGRAM, str(capability), kinds, formats]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_kernels_compile(tmp_path):
    compile_for(90, "bf16", "int4", tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles(tmp_path, capability):
    compile_for(capability, "fp32,bf16", "int4,int5,q4_0,q5_0,q6_k,q8_0,int8", tmp_path)
