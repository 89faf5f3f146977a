"""Fast loops on tensors, with a PyTorch form of each where ours cannot run. They know nothing about networks.

Read in this order:

    packing.py  nibbles.py         how weights of few bits are laid out in memory
    rounding.py                    one matrix → codes and scales, without data
    gguf_blocks.py  gguf_packing.py    the blocks of GGUF files: their numbers, and the same in our layout
    cpu/                           C++: linears over packed weights, attention over pages, norms; training's loops
    triton/                        packed linears and attention over pages, on an NVIDIA GPU
    dispatch.py                    which of them takes a tensor

`available()` says whether the compiled kernels run on this processor.
Not here: linears as modules (`model/linears/`), codes chosen from data (`quantize/`).
"""

from qianwen.kernels.cpu.operators import available

__all__ = ["available"]
