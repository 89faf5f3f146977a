"""Fast generation with weights that are being trained: packed linears inside a block, the trained weights after it.

    for step in …:
        with serving(policy):
            answers = llm.generate(prompts)         packed linears, fused layers
        llm.clear_cache()                           the weights change now, so its cached prompts become invalid
        run(policy, …)                              the same parameters as before the block, to the last bit

The trained network does not change. A second network with packed linears is built, and inside the block its decoder and
head replace those of the model. Each linear is packed as follows:

    floats, on a CPU with the kernels     bf16: exact for bf16 weights, else rounded to bf16; or int8 (`bits=8`)
    NF4 or GPTQ codes, no adapter         `fast()`: exact for GPTQ codes that are symmetric and in order, else int8
    LoRA over either                      W + scale · B A merged in fp32, then as floats; over fewer bits int8
    floats on a GPU, packed linears       the same module

Activations are fp32. With a merged adapter the layers run fused, which a separate adapter prevents: 1.4 to 1.9 times
the tokens per second of separate adapters over packed linears, and packing takes the same time. The table shows the
difference of the logits from those of the trained weights in fp32, relative to their size (0.5B):

    bf16 weights                    0.0 %       computed in bf16, as in training       1.6 %
    LoRA over bf16, merged          0.4 %       computed in bf16                       1.6 %
    LoRA over bf16, merged, int8    4.0 %
    LoRA over NF4, merged, int8     3.6 %       int8 with a separate adapter           3.6 %

Without AMX the bf16 kernels multiply in fp32. From about 32 parallel answers PyTorch's own bf16 is then faster, and
int8 is more than twice as fast as either.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from qianwen.kernels.cpu import operators
from qianwen.kernels.dispatch import on_gpu
from qianwen.model.linears.lora import LoraLinear, device_of
from qianwen.model.linears.packed import FORMAT_OF_BITS, Bf16Embedding, PackedLinear, linear_norms, split_outliers
from qianwen.model.transformer import Qwen, RMSNorm, empty_network, replace_module
from qianwen.runtime.device import free_memory_bytes, return_free_memory
from qianwen.runtime.distributed import world_size
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

FREE_SHARE = 0.8  # maximum fraction of the free memory for the packed weights


@contextmanager
def serving(model: Qwen, *, bits: Literal[8, 16] = 16) -> Iterator[Qwen]:
    """Inside the block `model` generates fast; after it every module, parameter and mode is the same as before.

    `bits` of a packed weight, for weights that are floats now; 8 is for many parallel answers, see above.
    Create the `LLM` inside the first block. In later blocks the same `LLM` uses the weights of that time. Call
    `LLM.clear_cache()` when the weights have changed, because the engine cannot notice it. Do not train, load or save
    inside the block. If packed weights would not be faster or do not fit in memory, the block changes nothing.
    """
    forms = _forms(model, FORMAT_OF_BITS[bits])
    packed = _packed_twin(model, forms) if _fits(model, forms) else None
    if packed is None:
        yield model
        return
    decoder, head = model.model, model.lm_head
    modes = [(module, module.training) for module in model.modules()]
    packed.train(model.training)
    try:
        model.model, model.lm_head = packed.model, packed.lm_head
        del packed
        yield model
    finally:
        model.model, model.lm_head = decoder, head
        for module, was_training in modes:
            module.training = was_training
        return_free_memory()


def _forms(model: Qwen, of_floats: str) -> dict[str, str]:
    """Name of each linear to pack → its format, or "fast" to call its method `fast`."""
    if world_size() > 1:  # each process has only a part of the weights
        return {}
    forms = {name: _form(model.get_submodule(name), of_floats) for name, _ in linear_norms(model)}
    return {name: form for name, form in forms.items() if form}


def _form(linear: Any, of_floats: str) -> str:
    bare = linear.base if isinstance(linear, LoraLinear) else linear
    weight = next(iter((*bare.parameters(), *bare.buffers())))
    has_kernels = operators.available() if weight.is_cpu else on_gpu(weight) is not None
    if not has_kernels or isinstance(bare, nn.Linear) and not weight.is_cpu:
        return ""
    if isinstance(bare, nn.Linear):
        return of_floats
    if _is_merged(linear):
        return of_floats if getattr(bare, "format", "") == "bf16" else "int8"
    return "fast" if hasattr(bare, "fast") else ""


def _is_merged(linear: nn.Module) -> bool:
    """Whether the linear has an active adapter, which is merged."""
    return isinstance(linear, LoraLinear) and linear.rank > 0 and linear.is_active


def _fits(model: Qwen, forms: dict[str, str]) -> bool:
    """Whether there are linears to pack and enough memory for them."""
    if not forms:
        return False
    sizes = {name: model.get_submodule(name) for name in forms}
    need = sum(
        int(linear.out_features) * int(linear.in_features) * (2 if forms[name] == "bf16" else 1)  # type: ignore[arg-type]
        for name, linear in sizes.items()
    )
    free = free_memory_bytes(device_of(model.model.norm))
    if need > FREE_SHARE * free:
        message = "packed weights need {need:.1f} GB, {free:.1f} GB are free: generating with unpacked weights, slower"
        console.print(tr(message, need=need / 1e9, free=free / 1e9), style="yellow")
    return need <= FREE_SHARE * free


def _packed_twin(model: Qwen, forms: dict[str, str]) -> Qwen:
    """A network with packed linears, packed one after another; all other tensors share the memory of the model."""
    twin = empty_network(model.config)
    for name, _ in linear_norms(model):
        linear = model.get_submodule(name)
        replace_module(twin, name, _packed(linear, forms[name]) if name in forms else linear)
    split_outliers(twin)
    is_fp32 = model.model.norm.weight.is_cpu  # the fused kernels compute all activations in fp32
    for name, module in list(model.named_modules()):
        if isinstance(module, RMSNorm):
            replace_module(twin, name, _fp32_norm(module) if is_fp32 else module)
    table = model.model.embed_tokens
    if is_fp32 and table.weight.element_size() < 4:
        weight = table.weight.detach().bfloat16()
        table = Bf16Embedding(weight.size(0), weight.size(1), _weight=weight, _freeze=True)
    twin.model.embed_tokens = table
    return twin


def _packed(linear: nn.Module, form: str) -> nn.Module:
    if isinstance(linear, LoraLinear):
        if _is_merged(linear):
            bias: Any = linear.base.bias
            return PackedLinear.from_float(linear.merged_weight(), bias, format=form)
        linear = linear.base
    if form == "fast":
        return linear.fast()  # type: ignore[operator]
    assert isinstance(linear, nn.Linear)
    return PackedLinear.from_float(linear.weight, linear.bias, format=form)


def _fp32_norm(norm: RMSNorm) -> RMSNorm:
    wide = RMSNorm(len(norm.weight), norm.eps)
    weight: Tensor = norm.weight.detach().float()
    wide.weight = nn.Parameter(weight, requires_grad=False)
    return wide
