"""Kill a training run anywhere, start it again: the finished run is the one that was never killed (R1, R2, R5)."""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nursery import Nursery, nursery

NUM_KILLS = int(os.environ.get("QIANWEN_KILLS", "10"))
STEPS = 24


def prepare() -> None:
    import torch

    import qianwen.train.pretrain  # noqa: F401

    torch.set_num_threads(1)


def attempt(folder: str, save_steps: int) -> None:
    """Go on with the run in `folder`."""
    import torch

    from qianwen.model import Qwen, QwenConfig
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.tokenizer.train import train_vocabulary
    from qianwen.train.loop import LoopConfig
    from qianwen.train.pretrain import PretrainConfig, pretrain

    os.environ["QIANWEN_RUNS"] = folder
    shape = QwenConfig(vocab_size=464, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    model = Qwen(shape).init_weights(0)
    model.model.embed_tokens.register_forward_hook(lambda _, args, out: torch.nn.functional.dropout(out, 0.1))
    config = PretrainConfig(
        name="run",
        data=str(Path(folder) / "corpus"),
        model=shape,
        seq_len=32,
        loop=LoopConfig(steps=STEPS, sequences_per_step=4, micro_batch_size=2, lr=1e-3, warmup_steps=5),
        log_steps=1,
        save_steps=save_steps,
    )
    pretrain(config, Tokenizer(train_vocabulary(["a"], 464)), model=model)


@pytest.fixture(scope="module")
def nurse() -> Iterator[Nursery]:
    if sys.platform == "win32":
        pytest.skip("forks and SIGKILL are POSIX")
    with nursery(__name__) as nurse:
        yield nurse


def call(folder: Path, save_steps: int = 7) -> tuple[Path, Path, int]:
    """What a nursery is told to train in `folder`, whose corpus is there then."""
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number in range(6):
        (folder / "corpus" / f"{number}.txt").write_text(f"text {number}: " + "count, count. " * (number + 3))
    return folder / "console.txt", folder, save_steps


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
    assert nurse.run(*call(folder)) == 0, (folder / "console.txt").read_text()
    return time.perf_counter() - began, outcome(folder)


def kill_until_done(nurse: Nursery, straight: tuple, folder: Path, kills: int, save_steps: int) -> None:
    seconds, expected = straight
    moments = random.Random(save_steps)
    for _ in range(kills):
        assert nurse.run(*call(folder, save_steps), signal_after=moments.uniform(0, seconds)) in (-9, 0)
    assert nurse.run(*call(folder, save_steps)) == 0, (folder / "console.txt").read_text()
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
    status = nurse.run(*call(tmp_path, 1000), signal_after=seconds / 2, number=number)
    assert time.perf_counter() - began < seconds / 2 + 5
    if status == 130 and (tmp_path / "run" / "metrics.jsonl").exists():
        (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
        steps = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
        assert checkpoint.name == f"step-{steps:06d}", "a finished step was lost"
    assert nurse.run(*call(tmp_path, 1000)) == 0
    assert outcome(tmp_path) == expected


@pytest.mark.slow
def test_a_disk_that_fills_costs_saves_but_no_run(nurse, straight, tmp_path):
    """Writes fail beyond a random byte of any file, then there is room again (R5 for whole runs)."""
    sizes = random.Random(0)
    for number in range(4):
        folder = tmp_path / str(number)
        assert nurse.run(*call(folder), file_limit=sizes.randrange(2_000, 500_000)) in (0, 1)
        assert nurse.run(*call(folder)) == 0, (folder / "console.txt").read_text()
        assert outcome(folder) == straight[1]


@pytest.mark.slow
def test_a_second_process_is_kept_off_the_run(nurse, straight, tmp_path):
    holder = nurse.start(*call(tmp_path))
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.01)
    assert nurse.run(*call(tmp_path)) == 1
    assert f"in use by process {holder}" in (tmp_path / "console.txt").read_text()
    assert nurse.status() == 0
    assert outcome(tmp_path) == straight[1]
