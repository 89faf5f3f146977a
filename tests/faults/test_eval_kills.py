"""An exact evaluation that is killed anywhere ends with the results of one that was never killed, bit for bit."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nursery import Nursery, nursery

NUM_KILLS = 20
NUM_EXAMPLES = 240
pytestmark = pytest.mark.slow


def prepare() -> None:
    import torch

    import qianwen.eval.evaluation  # noqa: F401

    torch.set_num_threads(1)


def attempt(folder: str, batch: int, core: int | None = None) -> None:
    """Go on with the evaluation in `folder`, on one core if it is given."""
    from qianwen.engine.llm import LLM
    from qianwen.engine.llm_engine import EngineConfig
    from qianwen.eval.evaluation import Evaluation
    from qianwen.model import Qwen, QwenConfig
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary

    if core is not None:
        os.sched_setaffinity(0, {core})
    specials = {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258}
    tokenizer = Tokenizer(Vocabulary({bytes([value]): value for value in range(256)}, specials, QWEN_PATTERN))
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Qwen(QwenConfig(vocab_size=259, **shape, max_position_embeddings=512)).init_weights(0).eval()
    llm = LLM(model, tokenizer, EngineConfig(max_num_seqs=batch, num_blocks=16 * batch, batch_invariant=True))
    Evaluation(_tasks(), folder).run(llm, {"model": "tiny", "exact": True})


def _tasks() -> list:
    from qianwen.chat.messages import Message
    from qianwen.eval.metrics import Share
    from qianwen.eval.task import Choice, Complete, Generate, Score, Task

    class Questions(Task):
        def __init__(self, name: str) -> None:
            self.name = name

        def examples(self) -> Iterator:
            for number in range(NUM_EXAMPLES):
                shots = "ab"[number % 2] * 64
                if self.name == "choices":
                    yield Choice(context=f"{shots}{number}", choices=("A", "B"))
                elif number % 2:
                    yield Complete(prompt=f"{shots}{number}", max_tokens=2 + number % 9)
                else:
                    yield Generate(messages=[Message("user", f"{number}")], max_tokens=2 + number % 7, num_samples=2,
                                   sampling={"temperature": 1.0})  # fmt: skip

        def score(self, example: object, answer: object) -> Score:
            value = sum(answer.choice_logprobs) + len(answer.text)
            return Score(shares={"sum": Share(value)}, extracted=answer.text, is_right=value > 3)

    return [Questions("choices"), Questions("texts")]


@pytest.fixture(scope="module")
def nurse() -> Iterator[Nursery]:
    if sys.platform == "win32":
        pytest.skip("forks and SIGKILL are POSIX")
    with nursery(__name__) as nurse:
        yield nurse


def outcome(folder: Path) -> str:
    """One hash over the metrics and all rows."""
    files = [folder / "results.json", *sorted((folder / "answers").iterdir())]
    assert [path.name for path in files] == ["results.json", "choices.jsonl", "texts.jsonl"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(scope="module")
def straight(nurse: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, str]:
    """The seconds and the outcome of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("straight")
    began = time.perf_counter()
    assert nurse.run(folder / "console.txt", folder, 8) == 0, (folder / "console.txt").read_text()
    return time.perf_counter() - began, outcome(folder)


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_killed_twenty_times_it_ends_with_the_same_results(nurse, straight, tmp_path, batch):
    seconds, expected = straight
    moments, num_kills, number = random.Random(batch), 0, 0
    while num_kills < NUM_KILLS:
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        status = nurse.run(folder / "console.txt", folder, batch, signal_after=moments.uniform(0, seconds / 4))
        assert status in (-signal.SIGKILL, 0), (folder / "console.txt").read_text()
        num_kills += status != 0
        number += status == 0  # it was done: the next kills hit a new run
    for folder in tmp_path.iterdir():
        assert nurse.run(folder / "console.txt", folder, batch) == 0, (folder / "console.txt").read_text()
        assert outcome(folder) == expected
        assert not [path for path in folder.rglob("*.tmp")]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are pinned on Linux only")
def test_on_one_core_beside_a_busy_process_the_results_are_the_same(nurse, straight, tmp_path):
    core = min(os.sched_getaffinity(0))
    busy = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as other:
        try:
            assert nurse.run(tmp_path / "console.txt", tmp_path, 8, core) == 0, (tmp_path / "console.txt").read_text()
        finally:
            other.kill()
    assert outcome(tmp_path) == straight[1]


def test_asked_to_stop_it_keeps_every_answer_and_goes_on(nurse, straight, tmp_path):
    seconds, expected = straight
    status = nurse.run(tmp_path / "console.txt", tmp_path, 8, signal_after=seconds / 2, number=signal.SIGINT)
    rows = sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("answers/*.jsonl"))
    assert status == 0 or rows
    assert nurse.run(tmp_path / "console.txt", tmp_path, 8) == 0
    assert outcome(tmp_path) == expected
