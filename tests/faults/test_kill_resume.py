"""Kill a training run anywhere, start it again: the finished run is the one that was never killed (R1, R2, R5).

Run as a script, this file is a nursery: it forks a process that trains for every line on its input, so that the seconds
of importing torch are paid once. At the line `status` it waits for the youngest and tells how it ended; until then the
dead stay zombies, whose ids are their own.
"""

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qianwen.runtime.errors import QianwenError

NUM_KILLS = int(os.environ.get("QIANWEN_KILLS", "10"))
STEPS = 24


def train(folder: Path, save_steps: int, file_limit: int) -> None:
    """One attempt at the run in `folder`; `file_limit` bytes is the most that a file may hold, 0 for no limit."""
    import torch

    from qianwen.model import Qwen, QwenConfig
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.tokenizer.train import train_vocabulary
    from qianwen.train.loop import LoopConfig
    from qianwen.train.pretrain import PretrainConfig, pretrain

    os.environ["QIANWEN_RUNS"] = str(folder)
    shape = QwenConfig(vocab_size=464, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    model = Qwen(shape).init_weights(0)
    model.model.embed_tokens.register_forward_hook(lambda _, args, out: torch.nn.functional.dropout(out, 0.1))
    config = PretrainConfig(
        name="run",
        data=str(folder / "corpus"),
        model=shape,
        seq_len=32,
        loop=LoopConfig(steps=STEPS, sequences_per_step=4, micro_batch_size=2, lr=1e-3, warmup_steps=5),
        log_steps=1,
        save_steps=save_steps,
    )
    if file_limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    pretrain(config, Tokenizer(train_vocabulary(["a"], 464)), model=model)


def attempt(folder: Path, save_steps: int, file_limit: int) -> int:
    """`train` in this process; the exit status."""
    with (folder / "console.txt").open("a") as console:
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
        try:
            train(folder, save_steps, file_limit)
        except KeyboardInterrupt:
            return 130
        except (QianwenError, OSError) as error:
            console.write(f"{error}\n")
            return 1
        return 0


def nursery() -> None:
    import torch

    import qianwen.train.pretrain  # noqa: F401

    torch.set_num_threads(1)
    print("ready", flush=True)
    children: list[int] = []
    for line in sys.stdin:
        if line == "status\n":
            _, status = os.waitpid(children.pop(), 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        folder, *numbers = json.loads(line)
        if not (child := os.fork()):
            status = 99
            try:
                status = attempt(Path(folder), *numbers)
            finally:
                os._exit(status)
        children.append(child)
        print(child, flush=True)


class Nursery:
    """Starts runs, and signals them after some seconds."""

    def __init__(self) -> None:
        command, environment = [sys.executable, __file__], os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, folder: Path, save_steps: int = 7, file_limit: int = 0) -> int:
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
        for number in range(6):
            (folder / "corpus" / f"{number}.txt").write_text(f"text {number}: " + "count, count. " * (number + 3))
        return self._ask(json.dumps([str(folder), save_steps, file_limit]))

    def status(self) -> int:
        return self._ask("status")

    def _ask(self, line: str) -> int:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def run(self, folder: Path, save_steps: int = 7, file_limit: int = 0) -> int:
        self.start(folder, save_steps, file_limit)
        return self.status()

    def run_and_signal(self, folder: Path, save_steps: int, number: signal.Signals, seconds: float) -> int:
        child = self.start(folder, save_steps)
        time.sleep(seconds)
        os.kill(child, number)
        return self.status()


@pytest.fixture(scope="module")
def nurse() -> Iterator[Nursery]:
    if sys.platform == "win32":
        pytest.skip("forks and SIGKILL are POSIX")
    nurse = Nursery()
    yield nurse
    nurse.process.stdin.close()
    nurse.process.wait(timeout=30)
    nurse.process.stdout.close()


def outcome(folder: Path) -> tuple[list[tuple], str]:
    """Every step's loss, gradient norm and rate, and the hash of the final weights."""
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    weights = (folder / "run" / "model" / "model.safetensors").read_bytes()
    return [(m["step"], m["loss"], m["grad_norm"], m["lr"]) for m in rows], hashlib.sha256(weights).hexdigest()


@pytest.fixture(scope="module")
def straight(nurse, tmp_path_factory) -> tuple[float, tuple]:
    """The seconds and the outcome of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("straight")
    began = time.perf_counter()
    assert nurse.run(folder) == 0, (folder / "console.txt").read_text()
    return time.perf_counter() - began, outcome(folder)


def kill_until_done(nurse: Nursery, straight: tuple, folder: Path, kills: int, save_steps: int) -> None:
    seconds, expected = straight
    moments = random.Random(save_steps)
    for _ in range(kills):
        assert nurse.run_and_signal(folder, save_steps, signal.SIGKILL, moments.uniform(0, seconds)) in (-9, 0)
    assert nurse.run(folder, save_steps) == 0, (folder / "console.txt").read_text()
    assert outcome(folder) == expected
    assert not [path for path in (folder / "run").rglob("*.tmp")]


@pytest.mark.slow
@pytest.mark.parametrize(("save_steps", "kills"), [(1, 0.4), (3, 0.3), (7, 0.3)])
def test_killed_runs_finish_as_if_never_killed(nurse, straight, tmp_path, save_steps, kills):
    kill_until_done(nurse, straight, tmp_path, round(NUM_KILLS * kills), save_steps)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("save_steps", "kills"), [(1, 17), (3, 17), (7, 16)])
def test_fifty_kills(nurse, straight, tmp_path, save_steps, kills):
    kill_until_done(nurse, straight, tmp_path, kills, save_steps)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_within_seconds(nurse, straight, tmp_path, number):
    seconds, expected = straight
    began = time.perf_counter()
    status = nurse.run_and_signal(tmp_path, 1000, number, seconds / 2)
    assert time.perf_counter() - began < seconds / 2 + 5
    if status == 130 and (tmp_path / "run" / "metrics.jsonl").exists():
        (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
        steps = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
        assert checkpoint.name == f"step-{steps:06d}", "a finished step was lost"
    assert nurse.run(tmp_path, 1000) == 0
    assert outcome(tmp_path) == expected


@pytest.mark.slow
def test_a_disk_that_fills_costs_saves_but_no_run(nurse, straight, tmp_path):
    """Writes fail beyond a random byte of any file, then there is room again (R5 for whole runs)."""
    sizes = random.Random(0)
    for number in range(4):
        folder = tmp_path / str(number)
        assert nurse.run(folder, 7, sizes.randrange(2_000, 500_000)) in (0, 1)
        assert nurse.run(folder, 7) == 0, (folder / "console.txt").read_text()
        assert outcome(folder) == straight[1]


@pytest.mark.slow
def test_a_second_process_is_kept_off_the_run(nurse, straight, tmp_path):
    holder = nurse.start(tmp_path)
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.01)
    assert nurse.run(tmp_path) == 1
    assert f"in use by process {holder}" in (tmp_path / "console.txt").read_text()
    assert nurse.status() == 0
    assert outcome(tmp_path) == straight[1]


if __name__ == "__main__":
    nursery()
