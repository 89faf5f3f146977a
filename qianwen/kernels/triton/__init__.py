"""The fast loops on an NVIDIA GPU, in Triton. `dispatch.on_gpu` gives this module where Triton is installed."""

from qianwen.kernels.triton.packed_linears import MOST_ROWS, few_rows, unpack
from qianwen.kernels.triton.paged_attention import paged_attention

__all__ = ["MOST_ROWS", "few_rows", "paged_attention", "unpack"]
