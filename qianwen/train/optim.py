"""AdamW over float32 weights, also if the model computes in bfloat16 (Qwen report, section 2.4: mixed precision).

A bfloat16 weight has 8 significant bits: an update below 0.4 % of it is rounded away. So the optimizer owns float32
masters, adds each micro-batch's gradient to them in float32, updates them, and rounds them into the model. A weight
that is float32 already is its own master, which is also how sharded (FSDP) models come here.

Matrices decay; vectors (RMSNorm weights, biases) do not. All state exists from the start, so that a checkpoint of
step 0 has the same tensors as any other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

# Weight → the hook that moves its gradient to the master. Only the newest optimizer of a weight may have a hook: if a
# model is trained a second time, the hook of the first optimizer would take the gradients away.
_COLLECTORS = WeakIdKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """Constants of the optimizer; the learning rate comes from the schedule."""

    betas: tuple[float, float] = (0.9, 0.95)  # decay of the first and second moment
    eps: float = 1e-8  # added to the denominator
    weight_decay: float = 0.1  # for matrices, including embeddings; 0 for vectors


class AdamW(torch.optim.AdamW):
    """torch's AdamW over the trainable weights of `model`, which it turns into `compute_dtype` (None: as they are).

    `lrs` are the peak rates of the weights whose names begin so, a value head's say; the others have the run's.
    """

    def __init__(
        self,
        model: nn.Module,
        config: AdamWConfig,
        *,
        compute_dtype: torch.dtype | None = None,
        lrs: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        self._computing: list[Tensor] = []  # weights the model computes with that have a master, and …
        self._masters: list[Tensor] = []  # … those masters, in the same order
        owned = [(name, self._master(weight, compute_dtype or weight.dtype)) for name, weight in named]
        groups = []
        for prefix in (None, *lrs):
            own = [(n, w) for n, w in owned if next((p for p in lrs if n.startswith(p)), None) == prefix]
            rate = {"initial_lr": lrs[prefix]} if prefix else {}
            groups += [
                {"params": [(n, w) for n, w in own if w.ndim >= 2], "weight_decay": config.weight_decay, **rate},
                {"params": [(n, w) for n, w in own if w.ndim < 2], "weight_decay": 0.0, **rate},
            ]
        groups = [group for group in groups if group["params"]]
        fused = {weight.device.type for _, weight in owned} <= {"cpu", "cuda", "mps"}
        super().__init__(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=fused)
        for _, weight in self.named_weights():
            step = torch.zeros((), dtype=torch.float32, device=weight.device)
            self.state[weight] = {
                "step": step,
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every float32 weight that is trained, under its name in the model."""
        for group in self.param_groups:
            yield from zip(group["param_names"], group["params"], strict=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the masters from their gradients and round them into the model."""
        super().step()
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the weights the model computes with."""
        if self._masters:
            torch._foreach_copy_(self._computing, self._masters)

    def _master(self, weight: nn.Parameter, dtype: torch.dtype) -> Tensor:
        if dtype == weight.dtype == torch.float32:
            return weight
        master = weight.detach().to(torch.float32, copy=True).requires_grad_()
        weight.data = weight.data.to(dtype)

        def collect(weight: Tensor) -> None:
            """Move a fresh gradient to the master: micro-batches are summed in float32."""
            assert weight.grad is not None
            master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
            weight.grad = None

        if (older := _COLLECTORS.get(weight)) is not None:
            older.remove()
        _COLLECTORS[weight] = weight.register_post_accumulate_grad_hook(collect)
        self._computing.append(weight)
        self._masters.append(master)
        return master
