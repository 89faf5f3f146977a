"""How much each input of a linear matters: the mean square of its activations on calibration texts.

An error Δ of the weights changes an output by Δ · x. If the inputs are not correlated, its expected square is
Σ Δ_k² E[x_k²], so E[x_k²] is what the rounding of a GGUF file weighs squared errors with (`kernels/gguf_encoding.py`;
llama.cpp calls the same numbers an importance matrix). GPTQ uses the whole matrix E[x xᵀ] instead (`gptq.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qianwen.model.transformer import Qwen
from qianwen.quantize.calibration import packed_rows

ROW = 1024  # tokens of a forward


@torch.inference_mode()
def input_importance(model: Qwen, texts: Sequence[Sequence[int]], seq_len: int) -> dict[str, Tensor]:
    """Name of the weight of each linear, and of the head → E[x_k²] of its inputs, fp32 [K].

    At most `seq_len` tokens of each text are read. Texts without a token give an empty result.
    """
    device = next(model.parameters()).device
    head = "model.embed_tokens" if model.config.tie_word_embeddings else "lm_head"
    linears = ((name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear))
    modules: dict[str, nn.Module] = {name: part for name, part in linears if name != "lm_head"}
    sums: dict[str, Tensor] = {}
    count = 0
    with _watched(modules, sums):
        for ids, positions in packed_rows([text[:seq_len] for text in texts], ROW):
            _add(sums, head, model(ids.to(device), positions.to(device)))
            count += ids.numel()
    return {f"{name}.weight": (total / count).cpu() for name, total in sums.items()}


@contextmanager
def _watched(modules: dict[str, nn.Module], sums: dict[str, Tensor]) -> Iterator[None]:
    """Inside the block, the squares of the inputs of each module are added to `sums`."""

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_pre_hook(lambda _, inputs: _add(sums, name, inputs[0]))

    handles = [watch(name, module) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add(sums: dict[str, Tensor], name: str, inputs: Tensor) -> None:
    squares = inputs.float().flatten(0, -2).square().sum(0)
    sums[name] = sums[name] + squares if name in sums else squares
