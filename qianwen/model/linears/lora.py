"""LoRA: learn a small change of rank r beside each frozen linear (Hu et al. 2021; Qwen's own finetune.py).

    y = W x + (alpha / r) · B A x        A [r, K] random, B [N, r] zero, so that training starts at the base

Adapters go around any linear: `nn.Linear`, or one of fewer bits that has `in_features`, `out_features` and
`dequantize()`, which makes it Q-LoRA. Modules that a low rank cannot teach (embedding and head, for new tokens or a
base that never saw ChatML) may be trained whole beside them: the released script's "LoRA (emb)".

A merge adds B A to W in fp32 and is refused when the network then says something else.
Not here: the file format (`adapter_folder.py`), and training (`align/sft.py`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.model.linears.low_rank import low_rank
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.translation import tr

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Whole = Literal["embed_tokens", "lm_head"]
LINEARS: tuple[Target, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WHOLE_NAMES: dict[Whole, str] = {"embed_tokens": "model.embed_tokens", "lm_head": "lm_head"}

# How far the logits of a merged network may be from the adapted one's, relative to their size: twice what rounding did
# to real ones of 135M and 0.5B parameters.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
PROBE_LEN = 64


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """The shape of an adapter; the defaults are those of the released finetune.py."""

    rank: int = 64
    alpha: float = 16.0  # the change is scaled by alpha / rank
    dropout: float = 0.05  # of the input of A while training
    target_modules: tuple[Target, ...] = LINEARS  # linears of every layer that get an adapter
    modules_to_save: tuple[Whole, ...] = ()  # trained whole; tied, either name means both


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to one linear: scale · B A, with A [r, K] and B [N, r]."""

    a: Tensor
    b: Tensor
    scale: float


@dataclass(frozen=True)
class Adapter:
    """The tensors of an adapter that fits a network: by linear, and what was trained whole."""

    linears: dict[str, LowRank]
    whole: dict[Whole, Tensor]


class LoraLinear(nn.Module):
    """A frozen linear with its low-rank change. Takes and gives what the linear does."""

    def __init__(self, linear: nn.Module, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = linear
        self.in_features, self.out_features = int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]
        self.scale, self.dropout = scale, dropout
        device = next((tensor.device for tensor in (*linear.parameters(), *linear.buffers())), torch.device("cpu"))
        self.lora_A = nn.Parameter(torch.zeros(rank, self.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        if torch.is_grad_enabled():
            return low_rank(out, x, (self.lora_A, self.lora_B), self.scale, self.dropout if self.training else 0.0)
        low = F.linear(x.to(self.lora_A.dtype), self.lora_A)
        return out + (F.linear(low, self.lora_B) * self.scale).to(out.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear that does the same, in the base's type (that of A and B over a quantised base)."""
        is_float = isinstance(self.base, nn.Linear)
        weight: Tensor = self.base.weight if is_float else self.base.dequantize()  # type: ignore[operator]
        dtype = weight.dtype if is_float else self.lora_A.dtype
        change = self.lora_B.float() @ self.lora_A.float() * self.scale
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter((weight.float() + change).to(dtype), requires_grad=False)
        if isinstance(self.base.bias, Tensor):
            linear.bias = nn.Parameter(self.base.bias.detach().to(dtype), requires_grad=False)
        return linear

    def extra_repr(self) -> str:
        return f"rank={len(self.lora_A)}, scale={self.scale:g}, dropout={self.dropout:g}"


def attach(model: Qwen, config: LoraConfig, *, seed: int = 0) -> Qwen:
    """Freeze `model` and put a fresh adapter around the linears that `config` names. Returns it.

    A is drawn as PEFT draws it, uniform within 1/√K, on the CPU: the same numbers on every device. Raises ConfigError.
    """
    _check(config)
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name in [name for name, _ in model.named_modules() if name.rpartition(".")[2] in config.target_modules]:
        linear = model.get_submodule(name)
        if isinstance(linear, LoraLinear):
            raise ConfigError(tr("the model has an adapter already: merge it first (`qianwen export`)"))
        lora = LoraLinear(linear, config.rank, config.alpha / config.rank, config.dropout)
        drawn = torch.empty(lora.lora_A.shape).uniform_(-1, 1, generator=generator) / math.sqrt(lora.in_features)
        lora.lora_A.data.copy_(drawn)
        replace_module(model, name, lora)
    for module in config.modules_to_save:
        model.get_submodule(WHOLE_NAMES[module]).requires_grad_(True)
    return model


def _check(config: LoraConfig) -> None:
    if config.rank < 1 or not 0 <= config.dropout < 1:
        message = "rank = {rank} and dropout = {dropout} make no adapter: rank is at least 1, dropout from 0 to below 1"
        raise ConfigError(tr(message, rank=config.rank, dropout=config.dropout))
    unknown = ({*config.target_modules} - {*LINEARS}) | ({*config.modules_to_save} - WHOLE_NAMES.keys())
    if unknown or not config.target_modules:
        message = "no adapter for {names}: target_modules are of {linears}, modules_to_save of {whole}"
        shown = {"linears": ", ".join(LINEARS), "whole": ", ".join(WHOLE_NAMES)}
        raise ConfigError(tr(message, names=", ".join(sorted(unknown)) or "-", **shown))


def adapted(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Every adapted linear under its name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))


@torch.no_grad()
def merge(model: Qwen, probe: Tensor | None = None) -> float:
    """Add every adapter to its linear, in fp32; returns how far the logits moved, relative to their size.

    `probe` [1, T] are the token ids they are compared on. Raises CheckpointError when they moved by more than rounding
    can explain; then the model is half one and half the other, and has to be loaded again.
    """
    model.eval()
    table = model.model.embed_tokens.weight
    if probe is None:
        probe = torch.randint(table.size(0), (1, PROBE_LEN), generator=torch.Generator().manual_seed(0))
    probe = probe.to(table.device)
    before = model.logits(model(probe)).float()
    for name, lora in list(adapted(model)):
        replace_module(model, name, lora.merged())
    after = model.logits(model(probe)).float()
    error = _distance(before, after)
    tolerance = TOLERANCE[next(model.parameters()).dtype]
    if not error <= tolerance:
        message = "merging changes the logits by {error:.1e} of their size, more than {tolerance:.0e}: keep the adapter"
        raise CheckpointError(tr(message, error=error, tolerance=tolerance))
    return error


def _distance(before: Tensor, after: Tensor) -> float:
    """|after − before| / |before|, logits centred; NaN when anything is not finite."""
    before, after = (scores - scores.mean(-1, keepdim=True) for scores in (before, after))
    return ((after - before).norm() / before.norm()).item()


def adapter_dtype(linear: nn.Module) -> torch.dtype:
    """What an adapter computes in: its linear's type, or fp32 beside one of fewer bits."""
    return linear.weight.dtype if isinstance(linear, nn.Linear) else torch.float32
