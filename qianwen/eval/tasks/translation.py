"""Translation of WMT22's general test sets between Chinese and English by a pretrained model (memo, table "WMT22").

The prompt is an instruction, worked examples, and the sentence; the answer ends at the end of its line. The memo says
five examples and BLEU, and no more, so prompt and examples are our choice, and both are in `settings`.

    bleu    corpus BLEU of sacrebleu, which counts matching words of English and matching characters of Chinese
    chrf    character F-score of sacrebleu

Both are of the whole corpus, from 0 to 100, not means over sentences. Their intervals are sacrebleu's: it resamples the
counts of the sentences 1,000 times. The score of a single sentence is only for comparing two models.

The published order follows the domains: conversations first, then shops, news, social media. A run of the first N would
translate conversations alone, so the questions are in an order that passes through the whole file with steps of a
constant length. The first `RESERVED` lines of that order are the worked examples and never questions, with any number
of shots.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qianwen.eval.data_files import find, read_text
from qianwen.eval.metrics import RESAMPLES, Estimate, Share
from qianwen.eval.task import Answer, Complete, Score, Scored, Task, TaskOptions
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

SHOTS = 5
RESERVED = 5  # lines that are never questions
MAX_TOKENS = 256
NAMES = {"zh": "Chinese", "en": "English"}
TOKENIZERS = {"zh": "zh", "en": "13a"}  # how sacrebleu divides the target language


class Wmt22(Task):
    """WMT22's general task in one direction: `generaltest2022.zh-en.src.zh` and its reference, line by line."""

    chance = None

    def __init__(self, options: TaskOptions, source: str, target: str) -> None:
        self.name = f"wmt22-{source}-{target}"
        self.source, self.target = source, target
        self.data = options.data
        self.shots = SHOTS if options.shots is None else options.shots

    def examples(self) -> Iterable[Complete]:
        order = spread(len(self._pairs))
        if not 0 <= self.shots <= RESERVED:
            message = "{task} has {count} worked examples, so --shots must be from 0 to {count}; got {shots}"
            raise ConfigError(tr(message, task=self.name, count=RESERVED, shots=self.shots))
        if len(order) <= RESERVED:
            message = "{path} has {count} lines; {reserved} are worked examples, so at least {least} are needed"
            values = {"count": len(order), "reserved": RESERVED, "least": RESERVED + 1}
            raise DataError(tr(message, path=self._source_file, **values))
        shots = "".join(f"{self._ask(line)} {self._pairs[line][1]}\n\n" for line in order[: self.shots])
        for line in order[RESERVED:]:
            facts = {"line": line + 1, "source": self._pairs[line][0], "target": self._pairs[line][1]}
            yield Complete(prompt=self._instruction + shots + self._ask(line), stop=("\n",), max_tokens=MAX_TOKENS,
                           facts=facts)  # fmt: skip

    def score(self, example: Complete, answer: Answer) -> Score:
        """The scores of the sentence alone."""
        text = answer.text.strip()
        shares = {
            "bleu": Share(_bleu(self.target, of_sentence=True).sentence_score(text, [example.facts["target"]]).score),
            "chrf": Share(_chrf().sentence_score(text, [example.facts["target"]]).score),
        }
        return Score(shares=shares, extracted=text or None)

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        texts = [answer.text.strip() for _, answer, _ in scored]
        targets = [example.facts["target"] for example, _, _ in scored]
        metrics = {"bleu": _bleu(self.target), "chrf": _chrf()}
        return {name: corpus_estimate(metric, texts, targets) for name, metric in metrics.items()}

    def settings(self) -> Mapping[str, Any]:
        lines = [line + 1 for line in spread(len(self._pairs))[: self.shots]]
        return {
            "protocol": "base, completion",
            "template": f"{self._instruction}{NAMES[self.source]}: SOURCE\n{NAMES[self.target]}:",
            "shots": self.shots,
            "shot_lines": lines,
            "decoding": f"greedy, at most {MAX_TOKENS} tokens, up to the end of the line",
            "data_sha256": hashlib.sha256(repr(self._pairs).encode("utf-8")).hexdigest(),
            "signatures": [_signature(metric) for metric in (_bleu(self.target), _chrf())],
        }

    @property
    def _instruction(self) -> str:
        return f"Translate from {NAMES[self.source]} to {NAMES[self.target]}.\n\n"

    def _ask(self, line: int) -> str:
        return f"{NAMES[self.source]}: {self._pairs[line][0]}\n{NAMES[self.target]}:"

    @cached_property
    def _source_file(self) -> Path:
        name = f"generaltest2022.{self.source}-{self.target}.src.{self.source}"
        return find(self.data, [f"wmt22/{name}", name])

    @cached_property
    def _pairs(self) -> list[tuple[str, str]]:
        """Source and reference of each line. DataError if the two files differ in their lines, or a line is empty."""
        name = f"generaltest2022.{self.source}-{self.target}.ref.*{self.target}"
        target_file = find(self._source_file.parent, [name])
        sources, targets = _lines(self._source_file), _lines(target_file)
        if len(sources) != len(targets):
            message = "{path} has {count} lines, but {other} has {others}: they must have the same lines"
            values = {"path": self._source_file, "count": len(sources), "other": target_file, "others": len(targets)}
            raise DataError(tr(message, **values))
        for path, lines in ((self._source_file, sources), (target_file, targets)):
            if "" in lines:
                raise DataError(tr("{path}, line {number} is empty", path=path, number=lines.index("") + 1))
        return list(zip(sources, targets, strict=True))


def spread(count: int) -> list[int]:
    """The numbers below `count` in an order whose every beginning is spread over all of them.

    Number k is k · step modulo `count`; the step is near the golden section of `count` and has no factor in common
    with it.

    >>> spread(8)
    [0, 5, 2, 7, 4, 1, 6, 3]
    """
    step = max(round(count * (math.sqrt(5) - 1) / 2), 1)
    while math.gcd(step, count) > 1:
        step += 1
    return [k * step % count for k in range(count)]


def corpus_estimate(metric: "Metric", texts: Sequence[str], targets: Sequence[str]) -> Estimate:
    """The score of all `texts` together, with sacrebleu's bootstrap interval, which is symmetric around its mean."""
    score = metric.corpus_score(texts, [targets], n_bootstrap=RESAMPLES)
    saved = json.loads(score.format(width=9, signature=str(metric.get_signature()), is_json=True))
    mean, half = saved.get("confidence_mean", 0.0), saved.get("confidence_var", 0.0)  # absent if every score is 0
    return Estimate(float(score.score), mean - half, mean + half, len(texts))


def _signature(metric: "Metric") -> str:
    """sacrebleu's name for how it computes. It has the number of references, so it is known after a first use."""
    score = metric.corpus_score([""], [[""]])
    return f"{score.name}|{metric.get_signature()}"


def _bleu(target: str, of_sentence: bool = False) -> "Metric":
    """A single sentence may have no match of four words; its BLEU takes the lengths that it has."""
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=TOKENIZERS[target], effective_order=of_sentence)


def _chrf() -> "Metric":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).rstrip("\n").split("\n")]
