"""Perplexity by length through the engine: known answers, columns, and what is refused before the first question."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qianwen.engine.llm import LLM
from qianwen.eval.length_windows import cut_windows, window_loss, window_nats
from qianwen.eval.runner import run_task
from qianwen.eval.task import PromptModel, TaskOptions
from qianwen.eval.tasks.length_perplexity import LengthPerplexity, default_lengths
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import write_jsonl

LENGTHS = (8, 16, 64)
TEXTS = {
    "wiki:1": "a short one",
    "wiki:2": "The quick brown fox jumps over the lazy dog. " * 3,
    "wiki:3": "Pack my box with five dozen liquor jugs! " * 3,
    "arxiv:1": r"\section{Sheaves} Let $\mathcal{C}$ be a site. \begin{lemma} It is. \end{lemma} " * 2,
}


@pytest.fixture
def task(tmp_path: Path, llm: LLM) -> Callable[..., LengthPerplexity]:
    rows = [{"text": text, "source": name, "lang": "en"} for name, text in TEXTS.items()]
    write_jsonl(tmp_path / "held_out.jsonl", rows)
    model = PromptModel(llm.tokenizer, False, llm.engine.max_model_len)
    return lambda lengths=LENGTHS, **options: LengthPerplexity(
        TaskOptions(data=tmp_path, lengths=lengths, **{"model": lambda: model} | options)
    )


def test_it_is_the_sum_that_the_network_gives_without_an_engine(task, llm: LLM) -> None:
    metrics = run_task(task(), llm).metrics
    network = llm.engine.runner.model
    for length in LENGTHS:
        losses = [
            window_loss(window_nats(network, cut_windows(llm.tokenizer.encode(text), length, 64)), 8)
            for name, text in TEXTS.items()
            if name != "wiki:1"
        ]
        for part, metric in (("every_token", "perplexity"), ("last_quarter", "last_quarter")):
            nats, tokens = (sum(getattr(loss, part)[i] for loss in losses) for i in (0, 1))
            estimate = metrics[f"{metric}/{length}"]
            assert estimate.value == pytest.approx(math.exp(nats / tokens), rel=1e-4)
            assert estimate.low < estimate.value < estimate.high and estimate.num_examples == 3


def test_latex_is_a_column_and_lengths_are_in_order(task, llm: LLM) -> None:
    names = list(run_task(task(), llm).metrics)
    assert names[:3] == ["perplexity/8", "perplexity/16", "perplexity/64"]
    assert set(names[3:9]) == {f"perplexity/{length}/{name}" for length in LENGTHS for name in ("latex", "wiki")}
    assert len(names) == 18


def test_a_uniform_network_has_the_perplexity_of_its_vocabulary(task, llm: LLM) -> None:
    uniform = Qwen(llm.engine.runner.model.config).init_weights(0).eval()
    with torch.no_grad():
        uniform.model.embed_tokens.weight.zero_()
    metrics = run_task(task(), LLM(uniform, llm.tokenizer)).metrics
    assert [estimate.value for estimate in metrics.values()] == [pytest.approx(259)] * 18


def test_a_length_that_the_model_does_not_cover_is_refused_before_the_first_question(task) -> None:
    with pytest.raises(ConfigError, match="the length 128 is more than the 64 tokens"):
        list(task((8, 128)).examples())
    with pytest.raises(ConfigError, match="not one behind a URL"):
        list(task(model=None).examples())


def test_documents_that_are_too_short_for_the_longest_length_are_in_no_column(task) -> None:
    sources = [example.facts["source"] for example in task().examples()]
    assert sources == [name for name in TEXTS if name != "wiki:1" for _ in LENGTHS]
    with pytest.raises(DataError, match="no document at .* has 64 tokens"):
        list(task(languages=("zh",)).examples())


@pytest.mark.parametrize(
    ("limit", "lengths"),
    [(512, (256, 512)), (2048, (1024, 2048)), (5000, (1024, 2048, 4096)), (10**6, tuple(1024 << n for n in range(6)))],
)
def test_the_default_lengths_are_those_of_the_memo(limit: int, lengths: tuple[int, ...]) -> None:
    assert default_lengths(limit) == lengths
