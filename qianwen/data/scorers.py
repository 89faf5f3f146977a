"""The ensemble that decides what is worth learning from: four filters that read, and their vote (Qwen report, 2.1).

    rules         what the published rules count, weighed instead of cut off (`traits`)
    quality       hashed n-grams: edited prose against chatter, spam, boilerplate, noise      (`linear.py`)
    safety        hashed n-grams, the worst window of a text: abuse and obscenity against the rest
    perplexity    an n-gram model of edited text; or a transformer's, handed in as a function  (`perplexity.py`)

Each is fitted to labelled texts, `good`, `low` (not worth it) or `unfit` (not fit for it), then calibrated and weighed
on a fifth of them that it did not see (`calibrate.py`). The vote is the sum of weighted log-odds that a text is to be
dropped. A folder holds the whole:  `load` is the vote, `quality` and `safety` two of its members, as a curation wants
them (`scoring.py`): texts → numbers in [0, 1], 1 for what is surely worth keeping.

Every number depends on its text alone. D texts, M members.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.data.calibrate import Platt, Vote, fit_platt, fit_vote, script_of
from qianwen.data.counts import Batch
from qianwen.data.linear import Linear, fit, fit_dense, grams
from qianwen.data.perplexity import NgramModel, fit_ngrams
from qianwen.data.pipeline import chance
from qianwen.data.scoring import Scorer
from qianwen.data.words import by_size
from qianwen.runtime.atomic import atomic_folder, verify_folder
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.language import tr

GOOD, LOW, UNFIT = "good", "low", "unfit"
MEMBERS = ("rules", "quality", "safety", "perplexity")
CALIBRATION = 0.2  # share of the labelled texts
WINDOW = 64  # words; the safety of a text is that of its worst window
FILTER = "filter.json"
Perplexity = Callable[[list[str]], Sequence[float]]
"""Nats a word, or a token, of each text: what takes the place of the n-gram model."""


@dataclass(frozen=True)
class Ensemble:
    """The members and their vote. `perplexity` replaces the n-gram model where it is given."""

    rules: np.ndarray
    quality: Linear
    safety: Linear
    ngrams: NgramModel
    platt: tuple[Platt, ...]
    vote: Vote
    languages: tuple[str, ...]
    perplexity: Perplexity | None = None

    def logits(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds that each text is to be dropped, of each member [D, M] and of the vote [D]."""
        each, group = self._scores(texts)
        calibrated = np.stack([one.logits(each[:, m], group) for m, one in enumerate(self.platt)], axis=1)
        return calibrated, self.vote.logits(calibrated, group)

    def _scores(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        parts = [self._batch_scores(batch) for batch in by_size(texts)]
        if not parts:
            return np.zeros((0, len(MEMBERS))), np.zeros(0, dtype=np.int64)
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([group for _, group in parts])

    def _batch_scores(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        batch = _batch(texts)
        usual = np.asarray(self.perplexity(texts), dtype=float) if self.perplexity else self.ngrams.surprise(batch)
        rules = traits(batch) @ self.rules[:-1] + self.rules[-1]
        found = grams(batch)
        scores = [rules, self.quality.scores(batch, found), self.safety.scores(batch, found), usual]
        return np.stack(scores, axis=1), script_of(batch)

    def save(self, folder: Path) -> None:
        """Write the folder. Weights are kept to 16 bits: their rounding is far below what labels say."""
        with atomic_folder(folder) as temporary:
            arrays = {
                "rules": self.rules,
                "quality": self.quality.weights.astype(np.float16),
                "safety": self.safety.weights.astype(np.float16),
                "platt": np.stack([one.lines for one in self.platt]),
                "vote": self.vote.weights,
                "vote_bias": self.vote.bias,
            } | {f"counts_{n}": counts for n, counts in enumerate(self.ngrams.counts)}
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            facts = {
                "members": MEMBERS, "languages": self.languages, "quality_bias": self.quality.bias,
                "safety_bias": self.safety.bias, "window": self.safety.window, "total": self.ngrams.total,
            }  # fmt: skip
            (temporary / FILTER).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def traits(batch: Batch) -> np.ndarray:
    """What the published rules count, as shares and logarithms [D, 2F]; the second half is of scripts without spaces.

    Length stays out: the shortest texts are not the worst, they are those of which least is known.
    """
    ink, words, lines = batch.num_ink, batch.num_words, batch.num_lines
    by_line = batch.by_line
    ends = batch.are("terminal")[batch.line_end - 1]
    repeated = by_line(batch.line_length * batch.repeated_lines)
    columns = [
        np.log1p(batch.share(batch.num_letters, words)),
        batch.share(batch.per_document(batch.are("letter")), ink),
        batch.share(batch.per_document(batch.are("digit")), ink),
        batch.share(batch.per_document(batch.are("curly")), ink),
        np.log1p(100 * batch.share(batch.per_document(batch.codes == ord("#")), ink)),
        np.log1p(100 * batch.share(batch.per_document(batch.are("sentence")), ink)),
        np.log1p(100 * batch.share(batch.per_document(batch.are("chinese mark")), ink)),
        batch.share(batch.per_document(batch.are("chinese stop")), np.maximum(words, 1)),
        batch.share(by_line(ends), lines),
        batch.share(by_line(batch.are("bullet")[batch.line_start]), lines),
        np.log1p(batch.share(by_line(batch.line_length), lines)),
        batch.share(repeated, by_line(batch.line_length)),
        batch.share(by_line(batch.line_length < 30), lines),
        np.log1p(100 * batch.share(batch.per_document(batch.codes == 0xFFFD), ink)),
    ]
    found = np.stack(columns, axis=1).astype(np.float64)
    unspaced = script_of(batch)[:, None] == 1
    return np.concatenate([np.where(unspaced, 0, found), np.where(unspaced, found, 0), unspaced], axis=1)


def train(
    texts: list[str], labels: Sequence[str], languages: Sequence[str], perplexity: Perplexity | None = None
) -> Ensemble:
    """Fit members, calibration and vote. Raises DataError for an unknown label, or one of which there are too few."""
    label = np.array(labels)
    for name in (GOOD, LOW, UNFIT):
        if (label == name).sum() < 20:
            raise DataError(
                tr("{count} texts are labelled {name}: a filter needs 20", count=(label == name).sum(), name=name)
            )
    if strange := set(labels) - {GOOD, LOW, UNFIT}:
        raise DataError(tr("{label} is no label: there are good, low and unfit", label=min(strange)))
    apart = np.array([chance(text, "calibrate") < CALIBRATION for text in texts])

    def some(chosen: np.ndarray) -> list[str]:
        return [texts[number] for number in np.flatnonzero(chosen)]

    judged = ~apart & (label != UNFIT)  # unfit prose may be well written
    quality = fit(some(judged), label[judged] == LOW)
    safety = fit(some(~apart), label[~apart] == UNFIT, window=WINDOW)
    dense = np.concatenate([traits(_batch(batch)) for batch in by_size(some(judged))])
    ensemble = Ensemble(
        rules=fit_dense(dense, label[judged] == LOW), quality=quality, safety=safety,
        ngrams=fit_ngrams(some(~apart & (label == GOOD))), platt=(), vote=Vote(np.zeros((2, 4)), np.zeros(2)),
        languages=tuple(sorted(set(languages))), perplexity=perplexity,
    )  # fmt: skip
    return _calibrated(ensemble, some(apart), label[apart])


def _calibrated(ensemble: Ensemble, texts: list[str], label: np.ndarray) -> Ensemble:
    """The ensemble with calibration and vote fitted to texts its members did not see."""
    scores, group = ensemble._scores(texts)
    platt, each = [], []
    for number, name in enumerate(MEMBERS):
        judged = label != UNFIT if name != "safety" else np.ones(len(label), dtype=bool)
        wanted = label == UNFIT if name == "safety" else label == LOW
        platt.append(fit_platt(scores[judged, number], wanted[judged], group[judged]))
        each.append(platt[-1].logits(scores[:, number], group))
    vote = fit_vote(np.stack(each, axis=1), label != GOOD, group)
    fields = {
        name: getattr(ensemble, name) for name in ("rules", "quality", "safety", "ngrams", "languages", "perplexity")
    }
    return Ensemble(**fields, platt=tuple(platt), vote=vote)


def open_ensemble(folder: str | Path, perplexity: Perplexity | None = None) -> Ensemble:
    """The ensemble that `save` wrote. Raises ConfigError when there is none, CheckpointError when it is torn."""
    path = Path(folder)
    if not (path / FILTER).exists():
        raise ConfigError(tr("{path} holds no filter: make one with `qianwen data train-filter`", path=folder))
    verify_folder(path)
    facts: dict[str, Any] = json.loads((path / FILTER).read_text(encoding="utf-8"))
    array = {file.stem: np.load(file) for file in path.glob("*.npy")}
    return Ensemble(
        rules=array["rules"],
        quality=Linear(array["quality"].astype(np.float32), facts["quality_bias"]),
        safety=Linear(array["safety"].astype(np.float32), facts["safety_bias"], facts["window"]),
        ngrams=NgramModel(tuple(array[f"counts_{n}"] for n in range(3)), facts["total"]),
        platt=tuple(Platt(lines) for lines in array["platt"]),
        vote=Vote(array["vote"], array["vote_bias"]),
        languages=tuple(facts["languages"]),
        perplexity=perplexity,
    )


def load(folder: str) -> Callable[[list[str]], list[float]]:
    """The vote, as a curation wants it."""
    ensemble = open_ensemble(folder)
    return lambda texts: _worth(ensemble.logits(texts)[1])


def as_scorer(folder: str, least: float = 0.5) -> Scorer:
    """The vote as a stage of a curation, for prose in the languages it learned; of others it knows nothing."""
    return Scorer(
        name="filter",
        function="qianwen.data.scorers:load",
        model=folder,
        least=least,
        languages=open_ensemble(folder).languages,
    )


def quality(folder: str) -> Callable[[list[str]], list[float]]:
    """The quality classifier alone."""
    return _member(folder, "quality")


def safety(folder: str) -> Callable[[list[str]], list[float]]:
    """The safety classifier alone."""
    return _member(folder, "safety")


def _member(folder: str, name: str) -> Callable[[list[str]], list[float]]:
    ensemble, number = open_ensemble(folder), MEMBERS.index(name)
    return lambda texts: _worth(ensemble.logits(texts)[0][:, number])


def _worth(logits: np.ndarray) -> list[float]:
    return (1 / (1 + np.exp(np.clip(logits, -30, 30)))).tolist()


def _batch(texts: list[str]) -> Batch:
    """Without language and kind, which only rules ask for."""
    return Batch(texts, ["und"] * len(texts), ["text"] * len(texts))
