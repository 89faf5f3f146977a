"""Kill a quantisation anywhere, start it again: the model is the one that was never killed (R1, R5 for it)."""

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .nursery import attempts

if sys.platform == "win32":
    pytest.skip("forks and SIGKILL are POSIX", allow_module_level=True)

NUM_KILLS = int(os.environ.get("QIANWEN_KILLS", "4"))


def prepare() -> None:
    import torch

    from qianwen.cli import calibration_data, quantize  # noqa: F401
    from qianwen.quantize import tune_scales  # noqa: F401

    torch.set_num_threads(1)


def attempt(model: str, to: str) -> None:
    """Quantise `model`, four layers, to the folder `to`, and tune the scales."""
    from qianwen.cli.quantize import quantize

    texts = str(Path(model).parent / "texts.jsonl")
    quantize([model, "--to", to, "--data", texts, "--group-size", "32", "--seq-len", "64", "--tune", "24"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from qianwen.checkpoints.hf_folder import write_folder
    from qianwen.model import Qwen, QwenConfig
    from qianwen.runtime.files import atomic_folder, write_jsonl
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.tokenizer.train import train_vocabulary

    shape = QwenConfig(vocab_size=464, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4)
    folder = tmp_path_factory.mktemp("given") / "model"
    words = ["river", "mill", "farm", "boat", "bridge", "market", "road", "storm", "village", "forest"]
    pick = random.Random(0)
    write_jsonl(folder.parent / "texts.jsonl", [{"text": " ".join(pick.choices(words, k=20))} for _ in range(400)])
    with atomic_folder(folder) as inside:
        write_folder(Qwen(shape).init_weights(seed=1), Tokenizer(train_vocabulary(["a"], 464)), inside, chat=True)
    return folder


@pytest.fixture(scope="module")
def run(model: Path) -> Iterator[Callable[..., int]]:
    with attempts(__name__, model) as run:
        yield run


def outcome(to: Path) -> dict[str, str]:
    """The hash of every file but the card, which names its folder, and the manifest, which has the card's hash."""
    files = [path for path in to.iterdir() if path.name not in ("README.md", "manifest.json")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def straight(run: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> tuple[float, dict[str, str]]:
    """The seconds and the outcome of one that nobody disturbs."""
    to = tmp_path_factory.mktemp("straight") / "out"
    began = time.perf_counter()
    assert run(to) == 0, to.with_suffix(".txt").read_text()
    return time.perf_counter() - began, outcome(to)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # 'make faults' asks for hundreds
def test_killed_quantisations_end_as_if_never_killed(run, straight, tmp_path):
    """Every folder is killed up to three times, in layers, between them, or while scales are tuned."""
    seconds, expected = straight
    moments = random.Random(0)
    kills = 0
    for number in range(NUM_KILLS):
        to = tmp_path / str(number)
        for _ in range(moments.randint(1, 3)):
            kills += run(to, signal_after=moments.uniform(0, seconds)) == -signal.SIGKILL
        said = to.with_name(f"{to.name}.txt")
        assert run(to) == 0, said.read_text()
        assert outcome(to) == expected
    assert kills and not list(tmp_path.glob("*.unfinished")) and not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_a_disk_that_fills_costs_one_layer(run, straight, tmp_path):
    """Writes fail beyond a random byte of any file, then there is room again."""
    sizes = random.Random(1)
    statuses = []
    for number in range(4):
        to = tmp_path / str(number)
        statuses.append(run(to, file_limit=sizes.randrange(500, 300_000)))
        assert run(to) == 0, to.with_name(f"{to.name}.txt").read_text()
        assert outcome(to) == straight[1]
    assert 1 in statuses and set(statuses) <= {0, 1}
    said = "".join(file.read_text() for file in tmp_path.glob("*.txt"))
    assert "File too large: " in said and "are saved in" in said and "Traceback" not in said
