"""Fine-tuning runs that the pages start: an uploaded file, its plan, and `qianwen sft` in a process of its own.

    .uploads/ID.jsonl     a file that was uploaded and is not used yet
    NAME/data.jsonl       the same file, in the folder of the run that uses it
    NAME/log.txt          what the process prints

The run is an ordinary run: it goes on when the page is closed or the server ends, `qianwen runs` lists it, and the same
command continues it. Names of uploaded files are not used. A model is one of `sources()`, never a path of a client.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qianwen.align.dialogues import read_dialogues
from qianwen.align.finetune_plan import FinetunePlan, plan_finetune
from qianwen.align.sft import SFTConfig
from qianwen.runtime import runs
from qianwen.runtime.atomic import atomic_file
from qianwen.runtime.errors import RequestError
from qianwen.runtime.files import LOCK, RunFolder, is_locked, runs_dir
from qianwen.runtime.translation import tr
from qianwen.serve.run_models import find, model_path
from qianwen.serve.service import Service

UPLOADS = ".uploads"  # in the folder of runs; a name with a dot is not listed as a run
DATA, LOG = "data.jsonl", "log.txt"
MAX_UPLOADS = 16  # files that no run uses; the oldest is removed
MAX_EPOCHS = 100
END_SECONDS = 30.0  # for the process of a run to end after the run has ended
METHODS = ("", "full", "lora", "qlora")  # empty: chosen by memory and size
UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
RUN_NAME = re.compile(r"\w[\w -]{0,59}")  # no dot and no separator, so it is never a path or hidden


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a user chose on the page. A client can send anything; `Finetunes` checks it."""

    model: str  # a key of `sources()`
    upload: str  # id of an uploaded file
    name: str  # of the new run
    method: str = ""
    epochs: float = 3.0


class Finetunes:
    """Plans, starts, stops and continues fine-tuning runs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._process: subprocess.Popen | None = None  # the newest one
        self._folder = Path()  # of its run
        self._lock = threading.Lock()

    def sources(self) -> dict[str, str]:
        """Name → MODEL of what can be fine-tuned: the served models, and the runs that have a model."""
        served = self._service.models.values()
        models = {each.name: each.source for each in served if each.source and not each.adapter}
        trained = [run for run in runs.all_runs() if run.record["stage"] in ("pretrain", "extend", "sft", "demo")]
        return models | {
            label: label for run in trained if (label := runs.label(run)) not in models and model_path(run) is not None
        }

    def taken_names(self) -> set[str]:
        """The names of all folders of runs, with those that failed before their first step."""
        return {path.name for path in runs_dir().glob("*")}

    def upload(self, data: bytes) -> tuple[str, int]:
        """Store an uploaded file; returns its id and its number of dialogues. DataError if it has none."""
        folder = runs_dir() / UPLOADS
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_mtime)[: -MAX_UPLOADS + 1]:
            old.unlink()
        id = secrets.token_hex(16)
        path = folder / f"{id}.jsonl"
        with atomic_file(path) as file:
            file.write(data)
        try:
            return id, sum(1 for _ in read_dialogues(path, quiet=True))
        except Exception:
            path.unlink()
            raise

    def plan(self, order: Order) -> FinetunePlan:
        """The run that `order` describes. Raises RequestError, DataError or ConfigError for one that cannot be."""
        return plan_finetune(self._config(order, self._uploaded(order)), method=order.method)

    def start(self, order: Order) -> str:
        """Start the run, and return its label."""
        with self._lock:
            self._check_free()
            upload = self._uploaded(order)
            config = self.plan(order).config
            folder = runs_dir() / order.name
            if has_failed_early(folder):
                shutil.rmtree(folder)
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                raise RequestError(tr("there is a run {name} already; choose another name", name=order.name)) from None
            os.replace(upload, folder / DATA)
            options = {"--method": config.method, "--seq-len": config.seq_len, "--loop.lr": config.loop.lr}
            options["--loop.sequences-per-step"] = config.loop.sequences_per_step
            self._spawn(config.model, folder, {**options, "--epochs": config.epochs})
            return order.name

    def resume(self, label: str) -> None:
        """Continue a run that was started here and was stopped. RequestError if it runs, or is another kind of run."""
        with self._lock:
            self._check_free()
            run = find(label)
            if not can_resume(run):
                raise RequestError(tr("the run {name} cannot be continued from here", name=label))
            self._spawn(str(run.config["model"]), run.path, {"--epochs": run.config["epochs"]})

    def stop(self, label: str) -> None:
        """Ask a run to save a checkpoint and stop; it can be continued."""
        runs.stop(find(label))

    def _config(self, order: Order, data: Path) -> SFTConfig:
        models = self.sources()
        if order.model not in models:
            raise RequestError(tr("choose one of the models in the list"))
        if not is_new_name(order.name):
            raise RequestError(tr("the name of a run has letters, digits, spaces, - and _ only, at most 60"))
        if order.method not in METHODS or not 0 < order.epochs <= MAX_EPOCHS:
            raise RequestError(tr("choose a method of the list, and at most {limit} epochs", limit=MAX_EPOCHS))
        return SFTConfig(name=order.name, model=models[order.model], data=str(data.resolve()), epochs=order.epochs)

    def _uploaded(self, order: Order) -> Path:
        path = runs_dir() / UPLOADS / f"{order.upload}.jsonl"
        if not UPLOAD_ID.fullmatch(order.upload) or not path.is_file():
            raise RequestError(tr("drop a file of dialogues first"))
        return path

    def _check_free(self) -> None:
        """One run at a time: two would share the memory that each was planned with."""
        if self._process is None:
            return
        run = next((each for each in runs.all_runs() if each.path == self._folder), None)
        if run is not None and runs.state(run) != "running":  # it has said so, and its process is about to end
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        if self._process.poll() is None:
            raise RequestError(tr("a fine-tuning run is in progress; wait for its end, or stop it"), status=409)

    def _spawn(self, model: str, folder: Path, options: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "qianwen", "sft", model, "--data", str((folder / DATA).resolve())]
        command += ["--name", folder.name, *(str(part) for pair in options.items() for part in pair)]
        environment = {**os.environ, "QIANWEN_RUNS": str(runs_dir().resolve()), "NO_COLOR": "1"}
        self._folder = folder
        with (folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,  # Ctrl-C in the terminal of the server does not reach it
            )  # fmt: skip
        # without a wait, an ended child would stay in the table of processes until the server ends
        threading.Thread(target=self._process.wait, daemon=True).start()


def is_new_name(name: str) -> bool:
    """Whether a run can be called so. Such a name is never a path."""
    return RUN_NAME.fullmatch(name) is not None


def can_resume(run: Any) -> bool:
    """Whether a run was started here and ended before its last step."""
    is_open = runs.state(run) in ("interrupted", "stopped", "failed")
    return is_open and run.record["stage"] == "sft" and (run.path / DATA).is_file()


def has_failed_early(folder: Path) -> bool:
    """Whether a run was started here and failed before its first step. Its name can be used again."""
    if not (folder / LOG).is_file() or is_locked(folder):
        return False
    if (folder / "run.json").exists():
        return RunFolder.open(folder).is_empty(inputs=(DATA, LOG))
    return {path.name for path in folder.iterdir()} <= {DATA, LOG, LOCK}


def log_tail(folder: Path, num_lines: int = 12) -> str:
    """The last lines that the process of a run printed; empty if it was not started here."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, (folder / LOG).stat().st_size - 8000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-num_lines:])


def is_starting(folder: Path) -> bool:
    """Whether a run was started here and has no record yet."""
    return (folder / LOG).is_file() and not (folder / "run.json").exists()
