"""Kill an extension anywhere, start it again: the finished model is that of the run that was never killed."""

import os
import random
import sys
import time
from pathlib import Path

import pytest

from .nursery import nursery
from .test_kill_resume import outcome

KILLS = 10


def prepare() -> None:
    import torch

    import qianwen.train.extend  # noqa: F401

    torch.set_num_threads(1)


def attempt(folder: str) -> None:
    """Go on with the extension in `folder`, from 32 to 64 tokens."""
    from qianwen.model import Qwen, QwenConfig
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.tokenizer.train import train_vocabulary
    from qianwen.train.extend import ExtendConfig, extend
    from qianwen.train.loop import LoopConfig
    from qianwen.train.pretrain import PretrainConfig

    os.environ["QIANWEN_RUNS"] = folder
    shape = QwenConfig(
        vocab_size=464, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    training = PretrainConfig(
        name="run",
        data=str(Path(folder) / "corpus"),
        model=shape,
        start_from="a model",
        seq_len=64,
        packed_share=0.25,
        loop=LoopConfig(steps=16, sequences_per_step=4, micro_batch_size=2, lr=1e-3, warmup_steps=5),
        log_steps=1,
        eval_steps=5,
        save_steps=3,
    )
    tokenizer = Tokenizer(train_vocabulary(["a"], 464))
    extend(ExtendConfig(pretrain=training, rope_theta=1e5, hold_out=0.2), Qwen(shape).init_weights(0), tokenizer)


def call(folder: Path) -> tuple[Path, Path]:
    """What the nursery is told: to extend a model in `folder`, whose corpus is there then."""
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number in range(20):
        (folder / "corpus" / f"{number}.txt").write_text(f"text {number}: " + "count, count. " * (number + 3))
    return folder / "console.txt", folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks and SIGKILL are POSIX")
def test_an_extension_killed_ten_times_ends_as_if_never_killed(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    moments = random.Random(0)
    with nursery(__name__) as nurse:
        began = time.perf_counter()
        assert nurse.run(*call(straight)) == 0, (straight / "console.txt").read_text()
        seconds = time.perf_counter() - began
        for _ in range(KILLS):
            assert nurse.run(*call(killed), signal_after=moments.uniform(0, seconds)) in (-9, 0)
        assert nurse.run(*call(killed)) == 0, (killed / "console.txt").read_text()
    assert outcome(killed) == outcome(straight)
    assert not [path for path in (killed / "run").rglob("*.tmp")]
