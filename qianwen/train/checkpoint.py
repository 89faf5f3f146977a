"""Checkpoints: written atomically, and verified when they are read.

    checkpoints/step-000100/
        state-00001.safetensors …   the tensors; one file per process where they are sharded
        values.json                 counters and extras
        rng-00000.json …            the random generators of each process
        manifest.json               sizes and SHA-256, written last, before the folder gets its name

A run resumes from the newest folder that verifies: a damaged one is reported, and the previous one is used. No pickle
is used. A checkpoint can be read by another number of processes than wrote it.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist

from qianwen.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from qianwen.runtime.distributed import barrier, is_main, rank, world_size
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_folder, verify_folder
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.train.parallel import load_shards, save_shards
from qianwen.train.state import TrainState, rng_state, set_rng_state

WHOLE, VALUES = "state.safetensors", "values.json"


class Checkpoints:
    """The checkpoints of one run; the newest `keep` are kept. All processes call `save` and `load_newest` together.

    `facts` must be equal when loading, for example the hash of the training data.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2, facts: dict[str, Any] | None = None) -> None:
        self.folder, self.keep, self.facts = Path(folder), keep, facts or {}
        self.last_step: int | None = None  # saved or loaded here

    def steps(self) -> list[int]:
        """The steps of all checkpoint folders, newest first, verified or not."""
        found = [re.fullmatch(r"step-(\d+)", path.name) for path in self.folder.glob("step-*")]
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def save(self, state: TrainState) -> Path:
        """Write `state` under its step, then delete all but the newest `keep` up to it. Raises OSError if it fails."""
        target = self.path(state.step)
        with _shared_folder(target) as folder:
            if world_size() == 1:
                tensors = state.tensors()
                plans = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
                write_safetensors(folder / WHOLE, plans, tensors.values())
            else:
                save_shards(state.tensors(), folder)
            _write_json(folder / f"rng-{rank():05d}.json", rng_state())
            if is_main():
                _write_json(folder / VALUES, {"facts": self.facts, **state.values()})
        self.last_step = state.step
        if is_main():
            past = [step for step in self.steps() if step <= state.step]  # later ones are damaged or abandoned
            for step in set(self.steps()) - set(past[: self.keep]):
                shutil.rmtree(self.path(step), ignore_errors=True)  # half-removed, it no longer verifies
        return target

    def load_newest(self, state: TrainState) -> int | None:
        """Fill `state` from the newest checkpoint that verifies and return its step; None when there is none at all.

        Raises CheckpointError when there are some and every one is damaged, or when the good one is of another run.
        """
        damaged = []
        for step in self.steps():
            problem = self._problem(step)
            if not problem:
                self._load(self.path(step), state)
                self.last_step = step
                return step
            damaged.append(problem)
            if is_main():
                console.print(tr("skipping a damaged checkpoint: {problem}", problem=problem), style="yellow")
        if damaged:
            message = tr("no checkpoint in {folder} is intact; delete them to start again", folder=self.folder)
            raise CheckpointError(message)
        return None

    def _problem(self, step: int) -> str:
        """What is wrong with a checkpoint, as the main process sees it."""
        problem = [""]
        if is_main():
            try:
                verify_folder(self.path(step))
                saved = json.loads((self.path(step) / VALUES).read_text())["step"]
                if saved != step:
                    problem = [tr("{path} contains step {saved}", path=self.path(step), saved=saved)]
            except (CheckpointError, OSError) as error:
                problem = [str(error)]
        if world_size() > 1:
            dist.broadcast_object_list(problem)
        return problem[0]

    def _load(self, folder: Path, state: TrainState) -> None:
        values = json.loads((folder / VALUES).read_text())
        facts = values.pop("facts")
        for name, wanted in self.facts.items():
            if facts.get(name) != wanted:
                message = tr(
                    "{folder} was made with {name} = {found}, not {wanted}",
                    folder=folder,
                    name=name,
                    found=facts.get(name),
                    wanted=wanted,
                )
                raise CheckpointError(message)
        _load_tensors(folder, state)
        state.load_values(values)
        state.optimizer.publish()
        own = folder / f"rng-{rank():05d}.json"
        if own.exists():  # a process that did not exist then keeps its new generators
            set_rng_state(json.loads(own.read_text()))


def _load_tensors(folder: Path, state: TrainState) -> None:
    """Overwrite the live tensors. The files' names and shapes must be exactly the state's."""
    own = state.tensors()
    if world_size() > 1 or not (folder / WHOLE).exists():
        load_shards(own, folder)
        return
    saved = SafetensorsFile(folder / WHOLE)
    shapes = {name: entry.shape for name, entry in saved.entries.items()}
    for name in sorted(shapes.keys() | own.keys()):
        if name not in own or shapes.get(name) != own[name].shape:
            raise CheckpointError(tr("{folder} and this model differ in {name}", folder=folder, name=name))
        own[name].copy_(saved.read(name))


@contextmanager
def _shared_folder(target: Path) -> Iterator[Path]:
    """`atomic_folder`, opened and closed by the main process and filled by all."""
    if world_size() == 1:
        with atomic_folder(target) as folder:
            yield folder
        return
    with atomic_folder(target) if is_main() else _nowhere() as folder:
        shared = [folder]
        dist.broadcast_object_list(shared)
        yield shared[0]
        barrier()  # all files are written before the manifest is made
    barrier()  # the folder is renamed before any process continues


@contextmanager
def _nowhere() -> Iterator[Path]:
    yield Path()


def _write_json(path: Path, contents: dict[str, Any]) -> None:
    path.write_text(json.dumps(contents), encoding="utf-8")
