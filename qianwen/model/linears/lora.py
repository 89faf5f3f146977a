"""LoRA: train a low-rank change of each frozen linear (Hu et al. 2021; Qwen's finetune.py).

    y = W x + (alpha / r) · B A x        A [r, K] random, B [N, r] zero, so training starts at the base model

`LoraLinear` computes this sum for the adapter that is trained, and for other adapters by name, each on its own rows
(`adapter_bank.py`). `without_adapter` switches the trained adapter off in a block.

An adapter can be added to any linear: `nn.Linear`, or a quantised one with `in_features`, `out_features` and
`dequantize()`, which is Q-LoRA. The embedding and the head can be trained fully (for new tokens, or for a base model
that never saw ChatML), as in "LoRA (emb)" of the released script.

`merge` adds B A to W in fp32 and fails if the logits change by more than rounding.
The file format is in `adapter_folder.py`, training in `align/sft.py`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.model.linears.low_rank import low_rank
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.translation import tr

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FullModule = Literal["embed_tokens", "lm_head"]
LINEARS: tuple[Target, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FULL_MODULES: dict[FullModule, str] = {"embed_tokens": "model.embed_tokens", "lm_head": "lm_head"}

# Maximum difference of the logits of a merged network and of base and adapter, relative to their size: twice the effect
# of rounding that was measured on models of 135M and 0.5B parameters.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
PROBE_LEN = 64
Rows = slice | Tensor  # rows of a step: consecutive, or by index


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """The shape of an adapter; the defaults are those of the released finetune.py."""

    rank: int = 64
    alpha: float = 16.0  # the change is multiplied by alpha / rank
    dropout: float = 0.05  # dropout rate of the input of A in training
    target_modules: tuple[Target, ...] = LINEARS  # the linears of each layer that get an adapter
    modules_to_save: tuple[FullModule, ...] = ()  # modules trained fully; if tied, either name means both


@dataclass(frozen=True)
class LowRank:
    """The change of one linear by an adapter: scale · B A, with A [r, K] and B [N, r]."""

    a: Tensor
    b: Tensor
    scale: float

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., K] → [..., N]."""
        return F.linear(F.linear(x.to(self.a.dtype), self.a), self.b) * self.scale


@dataclass(frozen=True)
class Adapter:
    """The tensors of an adapter: the change of each linear by name, and the weights that were trained fully."""

    linears: dict[str, LowRank]
    full_weights: dict[FullModule, Tensor]


@dataclass(eq=False)
class AdapterRows:
    """The rows of each adapter in the current forward; all linears of a network share one object."""

    is_invariant: bool = False  # compute every change for all rows, so that the bits of a row depend on no other row
    spans: list[tuple[str, Rows]] = field(default_factory=list)


class LoraLinear(nn.Module):
    """A frozen linear with low-rank changes. Input and output types are those of the linear.

    lora_A, lora_B    the trained change, for all rows; none if the rank is 0
    changes           changes of adapters by name, for inference; `rows` gives the rows of x [1, T, K] of each
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def __init__(self, linear: nn.Module, rank: int = 0, scale: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = linear
        self.in_features, self.out_features = int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]
        self.rank, self.scale, self.dropout = rank, scale, dropout
        self.is_active = True  # False: leave the trained change out (`without_adapter`)
        self.changes: dict[str, LowRank] = {}
        self.rows: AdapterRows | None = None
        device = device_of(linear)
        self.register_parameter("lora_A", _zeros(rank, self.in_features, device) if rank else None)
        self.register_parameter("lora_B", _zeros(self.out_features, rank, device) if rank else None)

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        if self.rank and self.is_active:
            if torch.is_grad_enabled():
                dropout = self.dropout if self.training else 0.0
                out = low_rank(out, x, (self.lora_A, self.lora_B), self.scale, dropout)
            else:
                out = out + LowRank(self.lora_A, self.lora_B, self.scale)(x).to(out.dtype)
        if self.rows is not None:
            self._add_changes(out, x, self.rows)
        return out

    def _add_changes(self, out: Tensor, x: Tensor, of_step: AdapterRows) -> None:
        for name, rows in of_step.spans:
            if (change := self.changes.get(name)) is not None:
                part = change(x[0])[rows] if of_step.is_invariant else change(x[0, rows])
                out[0, rows] += part.to(out.dtype)

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """W + scale · B A, fp32 [N, K]."""
        weight: Tensor = self.base.weight if isinstance(self.base, nn.Linear) else self.base.dequantize()  # type: ignore[operator]
        return weight.float() + self.lora_B.float() @ self.lora_A.float() * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear for W + scale · B A, in the type of the base (of A and B if the base is quantised)."""
        dtype = self.base.weight.dtype if isinstance(self.base, nn.Linear) else self.lora_A.dtype
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(self.merged_weight().to(dtype), requires_grad=False)
        if isinstance(self.base.bias, Tensor):
            linear.bias = nn.Parameter(self.base.bias.detach().to(dtype), requires_grad=False)
        return linear

    def extra_repr(self) -> str:
        return f"rank={self.rank}, scale={self.scale:g}, dropout={self.dropout:g}"


def _zeros(rows: int, columns: int, device: torch.device) -> nn.Parameter:
    return nn.Parameter(torch.zeros(rows, columns, device=device))


def attach(model: Qwen, config: LoraConfig, *, seed: int = 0) -> Qwen:
    """Freeze `model` and add a new adapter to the linears that `config` names, in place. Returns the model.

    A is uniform within ±1/√K as in PEFT, and drawn on the CPU, so it is the same on every device. Raises ConfigError.
    """
    _check(config)
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name in [name for name, _ in model.named_modules() if name.rpartition(".")[2] in config.target_modules]:
        linear = model.get_submodule(name)
        if isinstance(linear, LoraLinear):
            raise ConfigError(tr("the model already has an adapter: merge it first with `qianwen export`"))
        lora = LoraLinear(linear, config.rank, config.alpha / config.rank, config.dropout)
        drawn = torch.empty(lora.lora_A.shape).uniform_(-1, 1, generator=generator) / math.sqrt(lora.in_features)
        lora.lora_A.data.copy_(drawn)
        replace_module(model, name, lora)
    for module in config.modules_to_save:
        model.get_submodule(FULL_MODULES[module]).requires_grad_(True)
    return model


def _check(config: LoraConfig) -> None:
    if config.rank < 1 or not 0 <= config.dropout < 1:
        message = "rank = {rank}, dropout = {dropout} is not valid: rank must be at least 1, dropout from 0 to below 1"
        raise ConfigError(tr(message, rank=config.rank, dropout=config.dropout))
    unknown = ({*config.target_modules} - {*LINEARS}) | ({*config.modules_to_save} - FULL_MODULES.keys())
    if unknown or not config.target_modules:
        message = (
            "{names} is not valid: choose target_modules from {linears} (at least one), modules_to_save from {full}"
        )
        choices = {"linears": ", ".join(LINEARS), "full": ", ".join(FULL_MODULES)}
        raise ConfigError(tr(message, names=", ".join(sorted(unknown)) or "-", **choices))


def adapted(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """All linears with a trained change, with their names."""
    modules = model.named_modules()
    return ((name, module) for name, module in modules if isinstance(module, LoraLinear) and module.rank)


@contextmanager
def without_adapter(model: nn.Module) -> Iterator[None]:
    """Inside the block `model` is its base model, bit for bit. This is the reference policy of PPO.

    It works with and without gradients, and blocks can be nested. With activation checkpointing, call `backward` inside
    the block too. Raises ConfigError if there is no adapter, or if modules are trained fully, which changes the base.
    """
    linears = [lora for _, lora in adapted(model)]
    if not linears:
        raise ConfigError(tr("the model has no adapter to switch off: use a second copy of the model as the reference"))
    tables = tuple(f"{name}.weight" for name in FULL_MODULES)
    if full := [name for name, weight in model.named_parameters() if weight.requires_grad and name.endswith(tables)]:
        message = "{names}: trained fully, so the base has changed: use a second copy of the model as the reference"
        raise ConfigError(tr(message, names=", ".join(full)))
    before = [lora.is_active for lora in linears]
    try:
        for lora in linears:
            lora.is_active = False
        yield
    finally:
        for lora, was_active in zip(linears, before, strict=True):
            lora.is_active = was_active


@torch.no_grad()
def merge(model: Qwen, probe: Tensor | None = None) -> float:
    """Merge the adapter of each linear into its weights, in fp32; returns the relative change of the logits.

    `probe` [1, T] are the token ids of the comparison. Raises CheckpointError if the logits change by more than
    rounding can explain. Then the model is already merged, so load it again.
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
        message = "merging changes the logits by {error:.1e} (relative), more than {tolerance:.0e}: keep the adapter"
        raise CheckpointError(tr(message, error=error, tolerance=tolerance))
    return error


def _distance(before: Tensor, after: Tensor) -> float:
    """|after − before| / |before| of centred logits; NaN if a value is not finite."""
    before, after = (scores - scores.mean(-1, keepdim=True) for scores in (before, after))
    return ((after - before).norm() / before.norm()).item()


def device_of(linear: nn.Module) -> torch.device:
    """The device of the weights of a linear of any type."""
    return next((tensor.device for tensor in (*linear.parameters(), *linear.buffers())), torch.device("cpu"))


def adapter_dtype(linear: nn.Module) -> torch.dtype:
    """The data type of an adapter: that of its linear, or fp32 if the linear is quantised."""
    return linear.weight.dtype if isinstance(linear, nn.Linear) else torch.float32
