"""The memo's table of perplexity by length, on a model trained here; one command, which goes on where it was stopped.

    python benchmarks/memo_long_context.py --corpus FILE_OR_FOLDER --folder FOLDER [--json FILE] [--quick]
        [--stage prepare,train,…] [--seeds 0,1,2]

    prepare     hold out forty documents, learn a vocabulary, write token files              `memo_texts.py`
    train       a network of 6.4 million weights beside its embedding, 20 million tokens for each seed, length 512
    measure     every row of `memo_rows.py` at 0.5× to 16× of the trained length, for each seed
    patterns    seed 0: windows of many patterns, and queries multiplied by a constant; passkeys of each
    logn        seed 0 trained with LogN scaling
    extend      seed 0 trained further at 4,096 tokens, with a larger rotary base and with the old one
    long        seed 0 for 60 million tokens; LogN at each of its checkpoints
    bits        seed 0 in fewer bits, at 4× of the trained length with and without each method
    report      what is there, as a table, a figure and the file of `--json`

All of it should take about seven hours of two quiet cores; that is an estimate. What is measured is in `measures`, a
file for each row. A stage that needs another runs it first. With `--quick` everything has a small size and takes two
minutes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from memo_rows import PATTERNS, ROWS, SHARPNESS, Row, passkeys, read
from memo_summary import bit_names, figure, show, summary
from memo_texts import HELD_OUT, open_tokenizer, prepare
from memo_training import NEW_BASE, Setup, model_folder, networks_of, open_network, setup, train, train_longer
from pairs import Report, arguments, console

from qianwen.checkpoints.load import load_model
from qianwen.model.transformer import Qwen
from qianwen.runtime.files import atomic_file, lock

STAGES = ("prepare", "train", "measure", "patterns", "logn", "extend", "long", "bits", "report")
BITS: dict[str, Any] = {"16": 16, "8": 8, "5": 5, "4": 4, "nf4": "nf4"}
NUM_KEYS = 20  # passkeys for each length
FEW = 4  # of the documents, one in so many, for what is searched


class Experiment:
    """The stages, and where their results are."""

    def __init__(self, folder: Path, setup: Setup, seeds: list[int]) -> None:
        self.folder, self.setup, self.seeds = folder, setup, seeds
        plan = setup.plan
        self.T, self.lengths, self.shortest = plan.train_len, setup.lengths, setup.lengths[0]

    @property
    def documents(self) -> list[list[int]]:
        return [row["ids"] for row in json.loads((self.folder / HELD_OUT).read_text())]

    def prepare(self) -> None:
        prepare(self.folder, self.setup.plan)

    def train(self) -> None:
        self.prepare()
        for seed in self.seeds:
            train(self.folder, self.setup, f"seed-{seed}", seed)

    def measure(self) -> None:
        for seed in self.seeds:
            model = self._trained(seed)
            self._read(f"seed-{seed}", model, ROWS, self.lengths, self.documents)
            self._find_keys(f"seed-{seed}", model, ROWS, self.lengths[:-1])

    def patterns(self) -> None:
        model, few = self._trained(0), self.documents[::FEW]
        shapes = {f"windows {name}": windows for name, windows in PATTERNS.items()}
        rows = {name: Row(windows=windows) for name, windows in shapes.items()}
        rows |= {f"{name}, ntk, logn": Row(ntk=True, logn=True, windows=windows) for name, windows in shapes.items()}
        rows |= {f"sharpness {s}": Row(sharpness=s) for s in SHARPNESS}
        rows |= {f"sharpness {s}, ntk": Row(ntk=True, sharpness=s) for s in SHARPNESS}
        rows |= {f"sharpness {s}, windows 1": Row(windows=(1,), sharpness=s) for s in SHARPNESS}
        lengths = (self.T, 4 * self.T, 16 * self.T)
        self._read("patterns", model, rows, lengths, few)
        self._find_keys("patterns", model, rows, (self.T, 2 * self.T, 4 * self.T))
        extended = open_network(self._extended("extended", NEW_BASE))
        self._find_keys("patterns-extended", extended, _shrunk(rows), (4 * self.T, 8 * self.T))

    def logn(self) -> None:
        self.prepare()
        model = open_network(train(self.folder, self.setup, "logn-0", 0, logn=True))
        self._read("logn-0", model, ROWS, self.lengths, self.documents)

    def extend(self) -> None:
        rows = {name: ROWS[name] for name in ("plain", "dynamic_ntk", "dynamic_ntk + logn")}
        for name, base in (("extended", NEW_BASE), ("extended-old-base", self.setup.model.rope_theta)):
            model = open_network(self._extended(name, base))
            self._read(name, model, rows, self.lengths, self.documents)
            self._find_keys(name, model, rows, self.lengths)

    def long(self) -> None:
        self.prepare()
        name, rows = "long-0", ("plain", "logn", "dynamic_ntk", "dynamic_ntk + logn", "windows 1x", "logn + windows 1x")
        train(self.folder, self.setup, name, 0, tokens=self.setup.long_tokens)
        lengths = (self.T, 4 * self.T, 16 * self.T)
        for step, model in networks_of(name, self.setup.model):
            named = {row: ROWS[row] for row in rows}
            self._read(f"{name}-{step:06d}", model, named, lengths, self.documents[::FEW])

    def bits(self) -> None:
        self._trained(0)
        for name, bits in BITS.items():
            model = load_model(str(model_folder("seed-0")), bits=bits, dtype=torch.bfloat16).model
            self._read(f"bits-{name}", model, ROWS, (self.T, 4 * self.T), self.documents)

    def _trained(self, seed: int) -> Qwen:
        self.prepare()
        return open_network(train(self.folder, self.setup, f"seed-{seed}", seed))

    def _extended(self, name: str, base: float) -> Path:
        self._trained(0)
        return train_longer(self.folder, self.setup, name, model_folder("seed-0"), base)

    def _read(self, name: str, model: Qwen, rows: dict[str, Row], lengths: Iterable[int], documents: list) -> None:
        lengths = tuple(lengths)
        for row, method in rows.items():
            self._once(name, row, lambda method=method: read(model, method, lengths, self.shortest, documents))

    def _find_keys(self, name: str, model: Qwen, rows: dict[str, Row], lengths: Iterable[int]) -> None:
        tokenizer, fillers, lengths = open_tokenizer(self.folder), self.documents, tuple(lengths)
        for row, method in rows.items():
            self._once(
                f"{name}-keys",
                row,
                lambda method=method: passkeys(model, method, lengths, NUM_KEYS, tokenizer, fillers),
            )

    def _once(self, name: str, row: str, measure: Callable[[], Any]) -> None:
        """Measure a row unless its file is there."""
        path = self.folder / "measures" / name / f"{row}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            values = measure()
            with atomic_file(path, "w") as file:
                file.write(json.dumps(values))
            console.print(f"{name}: {row}", highlight=False)


def _shrunk(rows: dict[str, Row]) -> dict[str, Row]:
    """The patterns without NTK, for a network that is trained on longer texts already."""
    return {name: row for name, row in rows.items() if row.windows and not row.ntk and not row.sharpness}


def check_plan(folder: Path, setup: Setup) -> None:
    """All stages in a folder have the same sizes."""
    path, plan = folder / "plan.json", setup.sizes()
    if not path.exists():
        path.write_text(json.dumps(plan, indent=1))
    elif json.loads(path.read_text()) != plan:
        raise SystemExit(f"{path} has other sizes or another corpus: choose another --folder")


def main() -> None:
    options = arguments(__doc__, corpus="", folder="", stage=",".join(STAGES), seeds="0,1,2")
    if not options.corpus or not options.folder:
        raise SystemExit("--corpus names a file or folder of documents, --folder a folder for everything that is made")
    stages = options.stage.split(",")
    if unknown := set(stages) - set(STAGES):
        raise SystemExit(f"no such stage: {', '.join(sorted(unknown))}; the stages are {', '.join(STAGES)}")
    folder = Path(options.folder).resolve()
    os.environ["QIANWEN_RUNS"] = str(folder / "runs")
    made = setup(options.corpus, is_quick=options.quick)
    experiment = Experiment(folder, made, [int(seed) for seed in options.seeds.split(",")])
    with lock(folder):
        check_plan(folder, made)
        try:
            for stage in (name for name in STAGES if name in stages and name != "report"):
                console.print(f"stage {stage}", highlight=False)
                getattr(experiment, stage)()
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on")
            sys.exit(130)
        if "report" in stages:
            write_report(folder, made, options.json)


def write_report(folder: Path, setup: Setup, json_path: Path | None) -> None:
    """What is measured by now."""
    report = Report("long context: the memo's table on a model trained here", "")
    values = summary(folder, setup)
    for name, value in values.items():
        report.note(name, value)
    report.finish({}, json_path)
    if values["rows"]:
        figure(values["rows"], setup.plan.train_len).savefig(folder / "curves.svg")
    for name in ("rows", "patterns", "logn-0", "extended", "extended-old-base", *bit_names(folder)):
        if values[name]:
            console.print(show(values[name], f"{name}: perplexity (excess over the trained length, nats)"))


if __name__ == "__main__":
    main()
