"""`qianwen bench` says what computed, and runs without the kernels."""

import os
import subprocess
import sys

import pytest

from qianwen.cli import bench
from qianwen.engine.llm import LLM
from qianwen.kernels.cpu import build
from qianwen.model.linears.packed import pack_model

from .conftest import tiny


@pytest.mark.skipif(build.family() is None, reason="no compiled kernels for this processor")
def test_the_path_is_that_of_the_weights():
    model, tokenizer = tiny()
    packed, floats = LLM(pack_model(tiny()[0]), tokenizer), LLM(model.bfloat16(), tokenizer)
    assert bench._path(packed.engine) == f"compiled kernels ({build.family_name()})"
    assert bench._path(floats.engine) == "PyTorch (the weights are not packed)"


@pytest.mark.parametrize("bits", ["stored", "4"])
def test_without_kernels_it_measures_and_says_so(model_folder, bits):
    sizes = ["--prompt-tokens", "20", "--new-tokens", "3", "--batches", "2", "--repeats", "1"]
    command = [sys.executable, "-m", "qianwen", "bench", str(model_folder), "--bits", bits, *sizes]
    done = subprocess.run(command, env=os.environ | {"QIANWEN_KERNELS": "0"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "computed by PyTorch (switched off by QIANWEN_KERNELS=0)" in done.stdout
