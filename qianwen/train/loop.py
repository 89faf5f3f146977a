"""The training loop: used by pretraining, fine-tuning, reward models and preference losses.

One optimizer step:

    set the rates → for each micro-batch: sum of losses, backward → add up over processes
    → divide by the number of items → clip → refuse or take the update → hooks

An item is what the losses are averaged over: a token with a label, or a pair of answers. The divisor counts the items
of the *whole* step, all micro-batches and processes together, never a mean of means: eight micro-batches of one
sequence equal one of eight, also where their lengths differ.

An update is refused when the loss or the gradient is not finite, or when the loss is far above the recent losses. The
step then ends before any weight or moment changes; multiplying the gradient by zero instead would make them NaN. After
`max_skips` refusals in a row the run stops, as skipping does not solve the problem.

A batch is a function of a cursor: `batches(cursor)` holds the `micro_batch_size` sequences from there on, so the
position in the data is one integer. Its `input_ids` are the tokens that go through the model. Hooks see
`(state, metrics)` after each step and may add to `metrics`.

Each group of the optimizer's weights follows the same schedule from its own peak rate, `initial_lr`; a group without
one has `LoopConfig.lr`.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qianwen.runtime.distributed import all_reduce_sum, rank, world_size
from qianwen.runtime.errors import ConfigError, QianwenError
from qianwen.runtime.translation import tr
from qianwen.train.parallel import local, sync_gradients, total_norm
from qianwen.train.schedule import Shape, learning_rate
from qianwen.train.state import TrainState, rng_state, set_rng_state

Batch = Mapping[str, Any]
Metrics = dict[str, Any]
LossFn = Callable[[Any, Batch], tuple[Tensor, int | Tensor, Mapping[str, float | Tensor]]]
"""`(model, batch)` → sum of the losses, `num_items` of them, further sums over the same items (averaged and logged)."""
Hook = Callable[[TrainState, Metrics], None]

SPIKE_WINDOW, SPIKE_MINIMUM = (
    128,
    32,
)  # number of recent losses to compare with, and the minimum number for a comparison


class Diverged(QianwenError):
    """Training cannot continue: too many updates in a row were refused."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Steps, batch sizes, learning rate, and the limits above which an update is refused."""

    steps: int  # total optimizer steps
    sequences_per_step: int  # sequences in one optimizer step, over all processes
    micro_batch_size: int  # sequences in one forward pass of one process
    lr: float  # peak learning rate (of the weights without a rate of their own)
    warmup_steps: int = 0  # steps of linear warm-up
    min_lr_ratio: float = 0.1  # last learning rate / peak
    shape: Shape = "cosine"  # of the schedule after the warm-up
    max_grad_norm: float = 1.0  # gradients with a larger norm are scaled down to it
    max_skips: int = 5  # refused updates in a row before the run stops
    spike_sigmas: float = 0.0  # refuse a loss this many standard deviations above the recent ones; 0: never

    def grad_accum_steps(self, num_processes: int) -> int:
        """Micro-batches of one process in a step. Raises ConfigError if the sizes do not divide."""
        at_once = self.micro_batch_size * num_processes
        if self.sequences_per_step % at_once or self.sequences_per_step < at_once:
            message = tr(
                "sequences_per_step = {wanted} is not a multiple of micro_batch_size × "
                "processes = {size} × {processes}",
                wanted=self.sequences_per_step,
                size=self.micro_batch_size,
                processes=num_processes,
            )
            raise ConfigError(message)
        return self.sequences_per_step // at_once


def run(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Callable[[int], Batch],
    config: LoopConfig,
    state: TrainState,
    hooks: Sequence[Hook] = (),
    stop: Callable[[], bool] = lambda: False,
    until: int | None = None,
) -> bool:
    """Train from `state.step` to `config.steps`. Returns False if `stop()` ended it early, between two steps.

    With `until` it returns at an earlier step. A later call, also with other `batches`, continues from there.
    """
    config.grad_accum_steps(world_size())
    model.train()
    last = config.steps if until is None else min(until, config.steps)
    while state.step < last:
        began = time.perf_counter()
        lr = _set_rates(state, config)
        totals = _accumulate(model, loss_fn, batches, config, state, stop)
        if totals is None:
            return False
        num_items, num_tokens = max(1.0, totals.pop("num_items")), int(totals.pop("num_tokens"))
        metrics: Metrics = {name: value / num_items for name, value in totals.items()}
        metrics |= {"lr": lr, "grad_norm": _gradient_norm(state) / num_items}
        if reason := _refusal(state, config, metrics["loss"], metrics["grad_norm"]):
            metrics["refused"] = _refuse(state, config, reason)
        else:
            _update(state, config, metrics, num_items)
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.cursor += config.sequences_per_step
        state.tokens_seen += int(num_items)
        metrics |= {"num_items": int(num_items), "num_tokens": num_tokens, "seconds": time.perf_counter() - began}
        for hook in hooks:
            hook(state, metrics)
        if state.consecutive_skips >= config.max_skips:
            message = tr(
                "stopped after {count} refused updates in a row: {reason}", count=config.max_skips, reason=reason
            )
            raise Diverged(message)
    return True


def _set_rates(state: TrainState, config: LoopConfig) -> float:
    """Set the rate of each group of weights for this step, and return that of a group without a rate of its own."""

    def rate(peak: float) -> float:
        return learning_rate(
            state.step,
            steps=config.steps,
            lr=peak,
            warmup_steps=config.warmup_steps,
            min_lr_ratio=config.min_lr_ratio,
            shape=config.shape,
        )

    for group in state.optimizer.param_groups:
        group["lr"] = rate(group.get("initial_lr", config.lr))
    return rate(config.lr)


def _accumulate(
    model: nn.Module,
    loss_fn: LossFn,
    batches: Callable[[int], Batch],
    config: LoopConfig,
    state: TrainState,
    stop: Callable[[], bool],
) -> dict[str, float] | None:
    """Add up the gradients of one step and return the sums over all processes; None if `stop()` ended it."""
    before, totals = rng_state(), {}
    device = next(model.parameters()).device
    count, at_once = config.grad_accum_steps(world_size()), config.micro_batch_size * world_size()
    for micro in range(count):
        if stop():
            set_rng_state(
                before
            )  # as if the unfinished step had not started: dropout draws the same numbers on resuming
            state.optimizer.zero_grad(set_to_none=True)
            return None
        batch = batches(state.cursor + micro * at_once + rank() * config.micro_batch_size)
        batch = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
        sync_gradients(model, micro == count - 1)
        loss, num_items, sums = loss_fn(model, batch)
        loss.backward()
        counts = {"num_items": num_items, "num_tokens": batch["input_ids"].numel()}
        for name, value in {"loss": loss.detach(), **counts, **sums}.items():
            totals[name] = totals.get(name, 0.0) + value
    summed = torch.tensor([float(value) for value in totals.values()], dtype=torch.float64)
    return dict(zip(totals, all_reduce_sum(summed.to(device) if world_size() > 1 else summed).tolist(), strict=True))


def _gradient_norm(state: TrainState) -> float:
    return total_norm([weight.grad for _, weight in state.optimizer.named_weights() if weight.grad is not None])


def _refusal(state: TrainState, config: LoopConfig, loss: float, grad_norm: float) -> str:
    """The reason to refuse this update, or an empty text."""
    if not math.isfinite(loss):
        return tr("the loss is {loss}", loss=loss)
    if not math.isfinite(grad_norm):
        return tr("the gradient norm is {norm}", norm=grad_norm)
    recent = state.recent_losses
    if config.spike_sigmas and len(recent) >= SPIKE_MINIMUM:
        mean = statistics.fmean(recent)
        spread = max(
            statistics.pstdev(recent), 0.02 * mean
        )  # on a plateau the deviation is near 0, and every small change would count as a spike
        if loss > mean + config.spike_sigmas * spread:
            return tr("the loss rose to {loss:.4g} from about {mean:.4g}", loss=loss, mean=mean)
    return ""


def _refuse(state: TrainState, config: LoopConfig, reason: str) -> str:
    state.skipped_steps += 1
    state.consecutive_skips += 1
    last = state.cursor + config.sequences_per_step - 1
    return tr("{reason}, sequences {first} to {last}", reason=reason, first=state.cursor, last=last)


def _update(state: TrainState, config: LoopConfig, metrics: Metrics, num_items: float) -> None:
    """Turn the summed gradients into the clipped mean and take the step."""
    moments = [local(value) for values in state.optimizer.state.values() for value in values.values()]
    damaged = torch.tensor([float(not torch.stack(torch._foreach_norm(moments)).isfinite().all())])
    if all_reduce_sum(damaged.to(moments[0].device)).item():
        raise Diverged(
            tr(
                "the optimizer's moments are not finite at step {step}; resume from the last checkpoint",
                step=state.step,
            )
        )
    scale = min(1.0, config.max_grad_norm / (metrics["grad_norm"] + 1e-6)) / num_items
    gradients = [weight.grad for _, weight in state.optimizer.named_weights() if weight.grad is not None]
    torch._foreach_mul_(gradients, scale)
    state.optimizer.step()
    state.consecutive_skips = 0
    state.recent_losses = [*state.recent_losses, metrics["loss"]][-SPIKE_WINDOW:]
