"""A vocabulary of bytes, a network of two narrow layers, and the engine over both; folders of results."""

from pathlib import Path
from typing import Any

import pytest

from qianwen.engine.llm import LLM
from qianwen.eval.metrics import Estimate, Share, estimate, mean_over_groups
from qianwen.eval.results import RESULTS, SETTINGS, answers_path, save_json
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.files import write_jsonl
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary


def network(max_position_embeddings: int) -> Qwen:
    """The same weights for any length."""
    shape = QwenConfig(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=max_position_embeddings,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    return Qwen(shape).init_weights(0).eval()


@pytest.fixture(scope="session")
def long_model() -> Qwen:
    """The network of `llm` for longer texts."""
    return network(4096)


@pytest.fixture(scope="session")
def llm() -> LLM:
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    ranks = {bytes([value]): value for value in range(256)}
    tokenizer = Tokenizer(Vocabulary(ranks, {name: 256 + number for number, name in enumerate(names)}, QWEN_PATTERN))
    return LLM(network(64), tokenizer)


def row(index: int, amount: float | None, *, name: str = "acc", **changes: Any) -> dict[str, Any]:
    """An example with one share: 1 is right, 0 is wrong, anything else is neither, and None is an error."""
    made = {"index": index, "prompt": [f"question {index}"], "facts": {"target": "B"}, "cluster": ""}
    if amount is None:
        return made | {"error": "too long"} | changes
    verdict = {1: "right", 0: "wrong"}.get(amount, "unjudged")
    score = {"shares": {name: [float(amount), 1.0]}, "extracted": "B", "verdict": verdict}
    return made | {"answer": {"text": "B", "num_tokens": 1}, "score": score} | changes


def write_results(folder: Path, tasks: dict[str, list[dict]], *, settings: Any = None, chance: Any = None) -> Path:
    """Write rows and their metrics. Subjects weigh the same if the rows have them."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = {}
    for name, rows in tasks.items():
        answers_path(folder, name).parent.mkdir(exist_ok=True)
        write_jsonl(answers_path(folder, name), rows)
        scored = [each for each in rows if "error" not in each]
        of_task = {"shots": 5} | (settings or {}).get(name, {})
        saved[name] = {
            "metrics": _metrics(scored), "chance": chance, "settings": of_task, "num_examples": len(rows),
            "num_errors": len(rows) - len(scored),
        }  # fmt: skip
    save_json(folder / RESULTS, {"model": folder.name, "tasks": saved})
    save_json(folder / SETTINGS, {"model": folder.name, "bits": 4} | (settings or {}).get("", {}))
    return folder


def _metrics(rows: list[dict]) -> dict[str, Estimate]:
    metrics: dict[str, list[tuple[str, Share]]] = {}
    for each in rows:
        for name, share in each["score"]["shares"].items():
            metrics.setdefault(name, []).append((each["facts"].get("subject", ""), Share(*share)))
    estimates = {}
    for name, shares in metrics.items():
        groups: dict[str, list[Share]] = {}
        for subject, share in shares:
            groups.setdefault(subject, []).append(share)
        estimates[name] = mean_over_groups(list(groups.values())) if len(groups) > 1 else estimate(groups.popitem()[1])
    return estimates
