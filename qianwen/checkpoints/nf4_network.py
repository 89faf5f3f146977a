"""Model files → a network with all linears of its layers in NF4, the base of Q-LoRA (Dettmers et al. 2023).

Only one matrix of floats is in memory at a time, so a model can be loaded if it fits in four bits. Embedding and head
stay floats, as in bitsandbytes. The number format is in `model/linears/nf4.py`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.hf_weights import fill, read_weights
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.linears.packed import linear_norms
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@torch.no_grad()
def nf4_model(source: GgufModel | Path, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Qwen:
    """The network of a GGUF file or weight folder: linears of layers in NF4, all other weights in `dtype`.

    Raises the same errors as `load_model`.
    """
    model, parameters = (
        source.read(dtype, device) if isinstance(source, GgufModel) else read_weights(source, dtype, device)
    )
    linears = {f"{name}.weight" for name, _ in linear_norms(model) if name != "lm_head"}
    quantized: dict[str, Nf4Linear] = {}

    def floats() -> Iterator[tuple[str, Tensor]]:
        """Yields the parameters that stay floats; the others are quantised as they arrive."""
        for name, tensor in parameters:
            if name in linears:
                quantized[name.removesuffix(".weight")] = Nf4Linear.from_float(tensor)
            else:
                yield name, tensor

    fill(model, floats())
    for name, linear in quantized.items():
        bias: Any = getattr(model.get_submodule(name), "bias", None)
        linear.bias = bias
        replace_module(model, name, linear)
    size = sum(linear.num_bytes for linear in quantized.values())
    console.print(tr("{count} linears in NF4: {size:.2f} GB", count=len(quantized), size=size / 1e9))
    return model.requires_grad_(False).eval()
