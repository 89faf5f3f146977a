"""Hooks: functions `(state, metrics) -> None` that the loop calls after every step, to measure, log and save.

Their order matters: hooks that add to `metrics` come before those that log them, and saving is last. A measurement
never changes training: it runs in eval mode and restores the random generators afterwards.
"""

import datetime
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from qianwen.runtime.device import memory_in_use_bytes
from qianwen.runtime.distributed import is_main
from qianwen.runtime.log import MetricsLog, console, displayed_metrics
from qianwen.runtime.translation import tr
from qianwen.runtime.trend import HELD_OUT, trend
from qianwen.train.checkpoint import Checkpoints
from qianwen.train.loop import Hook, Metrics
from qianwen.train.state import TrainState, preserved_rng

USUAL = {"loss", "lr", "grad_norm"}  # metrics of every step


def measure_every(steps: int, last: int, measure: Callable[[Any], Mapping[str, float | str]]) -> Hook:
    """Add `measure(model)` to the metrics of every `steps`-th and the `last` step: a held-out loss, a sample."""

    def hook(state: TrainState, metrics: Metrics) -> None:
        if state.step % steps and state.step != last:
            return
        training = state.model.training
        state.model.eval()
        with preserved_rng(), torch.no_grad():
            metrics.update(measure(state.model))
        state.model.train(training)

    return hook


def log_every(steps: int, last: int, log: MetricsLog, *, flops_per_token: float = 0.0, peak_flops: float = 0.0) -> Hook:
    """Log a line every `steps` steps, at the first and `last` one, and if there are additional metrics.

    `loss` is that of the step, `mean_loss` the mean over all items since the previous line; its sums are in the
    checkpoints, so a resumed run logs the same. After a measurement of held-out texts, a sentence says how it goes.
    Speeds are averages since the previous line, without the time of hooks: `tokens_per_second` counts all tokens that
    went through the model, `labelled_tokens_per_second` those the loss counts, which in fine-tuning are few.
    `share_of_peak` compares the former, at `flops_per_token`, with `peak_flops`: the result of `measured_peak` times
    the number of processes.
    """
    past = {"steps": 0, "tokens": 0, "items": 0, "seconds": 0.0}

    def hook(state: TrainState, metrics: Metrics) -> None:
        past["steps"] += 1
        past["tokens"] += metrics.pop("num_tokens")
        items = metrics.pop("num_items")
        past["items"] += items
        if math.isfinite(metrics["loss"]):
            state.unlogged_loss += metrics["loss"] * items
            state.unlogged_items += items
        past["seconds"] += metrics.pop("seconds")
        if metrics.keys() <= USUAL and state.step % steps and state.step not in (1, last):
            return
        if state.unlogged_items:
            metrics["mean_loss"] = state.unlogged_loss / state.unlogged_items
            state.unlogged_loss, state.unlogged_items = 0.0, 0
        speed = past["tokens"] / past["seconds"]
        metrics["tokens_per_second"] = round(speed)
        metrics["labelled_tokens_per_second"] = round(past["items"] / past["seconds"])
        if peak_flops:
            metrics["share_of_peak"] = speed * flops_per_token / peak_flops
        metrics["memory_gb"] = _memory_bytes() / 2**30
        seconds = (last - state.step) * past["seconds"] / past["steps"]
        log.log(step=state.step, **metrics, eta=str(datetime.timedelta(seconds=round(seconds))))
        past.update(steps=0, tokens=0, items=0, seconds=0.0)
        if is_main() and any(name.startswith(HELD_OUT) for name in metrics):
            console.print(trend(displayed_metrics(log.path)))

    return hook


def save_every(steps: int, checkpoints: Checkpoints) -> Hook:
    """A checkpoint every `steps` steps. If the disk is full, only this checkpoint is lost, and training continues."""

    def hook(state: TrainState, metrics: Metrics) -> None:
        if state.step % steps:
            return
        try:
            checkpoints.save(state)
        except OSError as error:
            message = tr("checkpoint at step {step} failed ({error}); training continues", step=state.step, error=error)
            console.print(message, style="red")

    return hook


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second that this device reaches on one large matrix product, the best of eight."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.full((size, size), 0.5, device=device, dtype=dtype) for _ in range(2))  # draws no random number
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        (a @ b)[0, 0].item()  # reading a number waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _memory_bytes() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else memory_in_use_bytes()
