"""Which of the fast loops takes a tensor, by its device, its number format and the processor. None: PyTorch's own do.

on_gpu(x)               packed linears and attention over pages, in Triton
training_kernels(x)     attention over packed documents and the softmax loss, forward and backward
description(device)     what computes packed linears and attention there, in words
"""

import functools
import importlib
import importlib.util
from types import ModuleType

import torch
from torch import Tensor

from qianwen.kernels.cpu import build, operators, training
from qianwen.runtime.translation import tr


def on_gpu(tensor: Tensor) -> ModuleType | None:
    """The kernels in Triton (`triton/`), if `tensor` is on a GPU and Triton is installed."""
    return _triton() if tensor.is_cuda else None


def training_kernels(x: Tensor) -> ModuleType | None:
    """The C++ loops for training (`cpu/training.py`), if they take tensors like `x` and run on this processor."""
    return training if training.takes(x) else None


def description(device: torch.device) -> str:
    """The family of kernels that answers on `device`, or PyTorch and why there are none."""
    if device.type == "cuda":
        return tr("Triton kernels") if _triton() else tr("PyTorch (Triton is not installed)")
    if device.type != "cpu":
        return "PyTorch"
    if operators.available():
        return tr("compiled kernels ({family})", family=build.family_name())
    return tr("PyTorch ({reason})", reason=build.library().reason)


@functools.cache
def _triton() -> ModuleType | None:
    has_triton = importlib.util.find_spec("triton")  # PyTorch brings it where it has CUDA, but not on every system
    return importlib.import_module("qianwen.kernels.triton") if has_triton else None
