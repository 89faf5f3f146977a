"""LoRA: learn a small change of rank r beside each frozen linear (Hu et al. 2021; Qwen's own finetune.py).

    y = W x + (alpha / r) · B A x        A [r, K] random, B [N, r] zero, so that training starts at the base

`LoraLinear` is this sum, for the one change that is trained and for changes of other adapters by name, each of which
is added to its own rows (`adapter_bank.py`). `without_adapter` switches the trained one off for a while.

Adapters go around any linear: `nn.Linear`, or one of fewer bits that has `in_features`, `out_features` and
`dequantize()`, which makes it Q-LoRA. Modules that a low rank cannot teach (embedding and head, for new tokens or a
base that never saw ChatML) may be trained whole beside them: the released script's "LoRA (emb)".

A merge adds B A to W in fp32 and is refused when the network then says something else.
Not here: the file format (`adapter_folder.py`), and training (`align/sft.py`).
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
Whole = Literal["embed_tokens", "lm_head"]
LINEARS: tuple[Target, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WHOLE_NAMES: dict[Whole, str] = {"embed_tokens": "model.embed_tokens", "lm_head": "lm_head"}

# How far the logits of a merged network may be from the adapted one's, relative to their size: twice what rounding did
# to real ones of 135M and 0.5B parameters.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
PROBE_LEN = 64
Rows = slice | Tensor  # of a step: a run of them, or their numbers


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

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., K] → [..., N]."""
        return F.linear(F.linear(x.to(self.a.dtype), self.a), self.b) * self.scale


@dataclass(frozen=True)
class Adapter:
    """The tensors of an adapter that fits a network: by linear, and what was trained whole."""

    linears: dict[str, LowRank]
    whole: dict[Whole, Tensor]


@dataclass(eq=False)
class AdapterRows:
    """Which rows of the forward under way belong to which adapter: one object for all linears of a network."""

    is_invariant: bool = False  # a row's bits do not depend on the rows beside it: every change runs over all of them
    spans: list[tuple[str, Rows]] = field(default_factory=list)


class LoraLinear(nn.Module):
    """A frozen linear and its low-rank changes. Takes and gives what the linear does.

    lora_A, lora_B    the change that is trained, for every row; with rank 0 there is none
    changes           changes of adapters by name, for inference: each for the rows of x [1, T, K] that `rows` gives it
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def __init__(self, linear: nn.Module, rank: int = 0, scale: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = linear
        self.in_features, self.out_features = int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]
        self.rank, self.scale, self.dropout = rank, scale, dropout
        self.is_active = True  # False: as if there were no trained change (`without_adapter`)
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
        """One linear that does the same, in the base's type (that of A and B over a quantised base)."""
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
    """Every linear with a trained change under its name."""
    modules = model.named_modules()
    return ((name, module) for name, module in modules if isinstance(module, LoraLinear) and module.rank)


@contextmanager
def without_adapter(model: nn.Module) -> Iterator[None]:
    """Inside the block `model` is its base: the same bits as before the adapter. This is PPO's reference policy.

    With or without gradients; blocks may be nested. Where layers are recomputed going backward, call `backward` inside
    the block too. Raises ConfigError where the base is not there: no adapter, or modules that are trained whole.
    """
    linears = [lora for _, lora in adapted(model)]
    if not linears:
        raise ConfigError(tr("the model has no adapter to switch off: use a second copy of the model as the reference"))
    tables = tuple(f"{name}.weight" for name in WHOLE_NAMES)
    if whole := [name for name, weight in model.named_parameters() if weight.requires_grad and name.endswith(tables)]:
        message = "{names}: trained whole, so the base is gone: use a second copy of the model as the reference"
        raise ConfigError(tr(message, names=", ".join(whole)))
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


def device_of(linear: nn.Module) -> torch.device:
    """Where the weights of a linear are, of whatever form."""
    return next((tensor.device for tensor in (*linear.parameters(), *linear.buffers())), torch.device("cpu"))


def adapter_dtype(linear: nn.Module) -> torch.dtype:
    """What an adapter computes in: its linear's type, or fp32 beside one of fewer bits."""
    return linear.weight.dtype if isinstance(linear, nn.Linear) else torch.float32
