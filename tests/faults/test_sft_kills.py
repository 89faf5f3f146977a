"""Kill a fine-tuning anywhere, start it again: the finished weights are those of the run never killed (R1, R2)."""

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
STEPS = 16
METHODS = ("full", "lora")


def prepare() -> None:
    import torch

    import qianwen.align.sft  # noqa: F401

    torch.set_num_threads(1)


def attempt(folder: str, method: str, save_steps: int) -> None:
    """Go on with the run in `folder`: two files by weight, dropout in the network and in the adapter."""
    from qianwen.align.sft import SFTConfig, sft
    from qianwen.checkpoints.load import load_model
    from qianwen.model.linears.lora import LoraConfig
    from qianwen.train.loop import LoopConfig

    os.environ["QIANWEN_RUNS"] = folder
    base = load_model(str(Path(folder) / "base"), dtype=None)
    config = SFTConfig(
        name="run",
        model=str(Path(folder) / "base"),
        data=(str(Path(folder) / "a.jsonl"), str(Path(folder) / "b.jsonl")),
        weights=(3.0, 1.0),
        method=method,
        lora=LoraConfig(rank=4, dropout=0.1),
        seq_len=128,
        dropout=0.1,
        loop=LoopConfig(steps=STEPS, sequences_per_step=4, micro_batch_size=2, lr=1e-3, warmup_steps=5),
        log_steps=1,
        save_steps=save_steps,
    )
    sft(config, base.model, base.tokenizer)


@pytest.fixture(scope="module")
def nurse() -> Iterator[Nursery]:
    if sys.platform == "win32":
        pytest.skip("forks and SIGKILL are POSIX")
    with nursery(__name__) as nurse:
        yield nurse


def call(folder: Path, base: Path, method: str, save_steps: int = 5) -> tuple[Path, Path, str, int]:
    """What a nursery is told to train in `folder`, whose data and base model are there then."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base").exists():
        (folder / "base").symlink_to(base)
        for name, answers in (("a", ("yes", "no", "maybe not")), ("b", ("one", "two"))):
            rows = [{"query": f"{name} {n}?", "response": answers[n % len(answers)]} for n in range(9)]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "console.txt", folder, method, save_steps


def outcome(folder: Path) -> tuple[list[tuple], dict[str, str]]:
    """Every step's loss, gradient norm and rate, and the hashes of the final weights."""
    import hashlib

    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    weights = sorted((folder / "run" / "model").glob("*.safetensors"))
    assert weights
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}
    return [(m["step"], m["loss"], m["grad_norm"], m["lr"]) for m in rows], hashes


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A base model over bytes, on disk."""
    from qianwen.checkpoints.hf_folder import write_folder
    from qianwen.model import Qwen, QwenConfig
    from qianwen.runtime.files import atomic_folder
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary

    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    ranks = {bytes([value]): value for value in range(256)}
    specials = {name: 256 + number for number, name in enumerate(names)}
    tokenizer = Tokenizer(Vocabulary(ranks, specials, QWEN_PATTERN))
    shape = QwenConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128,
    )  # fmt: skip
    with atomic_folder(tmp_path_factory.mktemp("base") / "base") as folder:
        write_folder(Qwen(shape).init_weights(0), tokenizer, folder, chat=False)
    return folder.parent / "base"


@pytest.fixture(scope="module")
def straight(nurse, base, tmp_path_factory) -> dict[str, tuple[float, tuple]]:
    """Method → the seconds and the outcome of a run that nobody disturbs."""
    found = {}
    for method in METHODS:
        folder = tmp_path_factory.mktemp(method)
        began = time.perf_counter()
        assert nurse.run(*call(folder, base, method)) == 0, (folder / "console.txt").read_text()
        found[method] = (time.perf_counter() - began, outcome(folder))
    return found


def kill_until_done(nurse, base, straight, folder, method: str, kills: int, save_steps: int) -> None:
    seconds, expected = straight[method]
    moments = random.Random(save_steps)
    for _ in range(kills):
        status = nurse.run(*call(folder, base, method, save_steps), signal_after=moments.uniform(0, seconds))
        assert status in (-9, 0), (folder / "console.txt").read_text()
    assert nurse.run(*call(folder, base, method, save_steps)) == 0, (folder / "console.txt").read_text()
    assert outcome(folder) == expected
    assert not [path for path in (folder / "run").rglob("*.tmp")]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed_runs_finish_as_if_never_killed(nurse, base, straight, tmp_path, method):
    kill_until_done(nurse, base, straight, tmp_path, method, NUM_KILLS // 2, 3)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("save_steps", "kills"), [(1, 17), (3, 17), (7, 16)])
def test_fifty_kills(nurse, base, straight, tmp_path, method, save_steps, kills):
    kill_until_done(nurse, base, straight, tmp_path, method, kills, save_steps)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_asked_to_stop_it_saves_and_continues(nurse, base, straight, tmp_path, method):
    seconds, expected = straight[method]
    status = nurse.run(*call(tmp_path, base, method, 1000), signal_after=seconds / 2, number=signal.SIGTERM)
    assert status in (130, 0), (tmp_path / "console.txt").read_text()
    assert nurse.run(*call(tmp_path, base, method, 1000)) == 0
    assert outcome(tmp_path) == expected
