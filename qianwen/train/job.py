"""The life cycle of a run, shared by all stages: lock, folder, state, signals and resuming.

    with Job.start("mine", "pretrain", config) as job:      locked, `running`
        checkpoints = job.resume(state, steps, keep=2)      loads the newest checkpoint that verifies, if any
        train(loss_fn, batches, loop, state, hooks, checkpoints, save_steps)
                                                            `finished`; `interrupted` or `failed` if it ended early

The same call with the same configuration continues the run; another configuration is refused. Ctrl-C and SIGTERM have
the same effect: inside `train` they stop the loop between two micro-batches and save a checkpoint, elsewhere they raise
KeyboardInterrupt at once. After a kill the recorded state is still `running`, but the lock is free (`runtime/runs.py`).
A failed run records its error. If it failed before its first step, another configuration may take its name.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from qianwen.runtime.distributed import all_reduce_sum, barrier, is_main, world_size
from qianwen.runtime.errors import QianwenError
from qianwen.runtime.files import RunFolder, lock, runs_dir
from qianwen.runtime.log import MetricsLog, console
from qianwen.runtime.translation import tr
from qianwen.train.checkpoint import Checkpoints
from qianwen.train.hooks import save_every
from qianwen.train.loop import Batch, Hook, LoopConfig, LossFn, run
from qianwen.train.state import TrainState


class Job:
    """A run of this process, from `Job.start` to the end of its block. Only the main process writes."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def start(cls, name: str, stage: str, config: Any) -> Iterator["Job"]:
        """Start the run `name` of `runs_dir()`, or continue it; all processes call this together.

        Raises ConfigError if another process uses the run, or if it was started with another configuration.
        """
        path = runs_dir() / name
        with lock(path) if is_main() else contextlib.nullcontext():
            folder = RunFolder.create(path, stage, config) if is_main() else None
            barrier()
            job = cls(folder or RunFolder.open(path))
            try:
                with _on_signals(signal.default_int_handler, signal.SIGTERM):
                    yield job
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    job._mark("interrupted")
                else:
                    job._mark("failed", error=_reason(error))
                raise
            job._mark("finished")

    @property
    def path(self) -> Path:
        return self.folder.path

    def record(self, **facts: Any) -> None:
        """Add facts to `run.json`."""
        self._mark("running", **facts)

    def resume(self, state: TrainState, last: int, *, keep: int, facts: Mapping[str, Any] | None = None) -> Checkpoints:
        """Fill `state` from the run's newest checkpoint, if there is one; `last` is the step the run ends at."""
        checkpoints = Checkpoints(self.path / "checkpoints", keep=keep, facts=dict(facts or {}))
        if (step := checkpoints.load_newest(state)) is not None and is_main():
            console.print(tr("continuing from step {step} of {last}", step=step, last=last))
        return checkpoints

    def metrics_log(self, state: TrainState) -> MetricsLog:
        """The run's metrics log, without rows after the step of `state` and without an incomplete row."""
        return MetricsLog(self.folder.metrics_path, resume_step=state.step)

    def _mark(self, state: str, **facts: Any) -> None:
        if is_main():
            self.folder.set_state(state, **facts)


def _reason(error: BaseException) -> str:
    """Why a run failed, for the list of runs: one of our sentences, or the kind of any other error and its text."""
    is_sentence = isinstance(error, (QianwenError, OSError)) and str(error)
    return str(error) if is_sentence else f"{type(error).__name__}: {error}"


def train(
    loss_fn: LossFn,
    batches: Callable[[int], Batch],
    config: LoopConfig,
    state: TrainState,
    hooks: Sequence[Hook],
    checkpoints: Checkpoints,
    save_steps: int,
) -> None:
    """Run the loop to its end, with a checkpoint every `save_steps` steps and at the last step.

    On Ctrl-C or SIGTERM, saves a checkpoint and raises KeyboardInterrupt.
    """
    hooks = [*hooks, save_every(save_steps, checkpoints)]
    with stop_signals() as stop:
        is_done = run(state.model, loss_fn, batches, config, state, hooks, stop)
        if checkpoints.last_step != state.step:
            checkpoints.save(state)
    if not is_done:
        raise KeyboardInterrupt(tr("saved at step {step}", step=state.step))


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C and SIGTERM only set a flag, which the yielded function reads (for all processes alike).

    A second Ctrl-C interrupts at once. Outside the main thread nothing is changed.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        print(tr("stopping after this micro-batch; interrupt again to stop without saving"), file=sys.stderr)

    def is_stopped() -> bool:
        if world_size() == 1:
            return bool(received)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return bool(all_reduce_sum(torch.tensor(len(received), device=device)).item())

    with _on_signals(receive, signal.SIGINT, signal.SIGTERM):
        yield is_stopped


@contextmanager
def _on_signals(handler: Callable[[int, FrameType | None], Any], *numbers: signal.Signals) -> Iterator[None]:
    """Handle signals with `handler` inside the block. Only in the main thread: Python allows no other."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
