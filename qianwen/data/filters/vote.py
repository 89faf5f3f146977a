"""The vote of the ensemble: which documents are worth training on (Qwen report, section 2.1).

    members     raw scores of a text                                                          (`features.py`)
    z           one scale for all: 0 for the median good text, 1 for the one that a tenth of the good texts exceed, on
                sources that the member was not trained on                                    (`score_calibration.py`)
    low         n / (n + 50) · z_rules + ⅓ z_quality   for n words. Shares of few words say little; in a script without
                spaces, where a word is a character, the factor is 1. The n-grams of quality know the topics of their
                sources too, so they weigh less
    margins     low − middle,  z_safety − limit,  z_perplexity − limit
    vote        the largest margin: any of the three is a reason to drop a text. Above 0, a score below ½, it is dropped

The middle is the least value of `low` that at most HARDEST of the good texts of each calibration source exceed. Such a
source is for the calibration alone, with texts to be kept that look like low ones: the hardest of them decides, so easy
ones do no harm. Without them it is the value at which both errors are equal: good texts dropped and low texts kept, of
training sources that a member did not see. A limit is the value that RARE of the good texts exceed. Each source has the
same weight there, and each script its own values. No margin is evidence for a text: clean language does not make spam
worth keeping, and a usual choice of words says nothing. (In a sum of log-odds, both kept spam; docs/log.md.)

A folder contains the ensemble. `load` is the vote as a scorer of a curation (`quality_scorer.py`): a number in [0, 1]
for each text, 1 for a text that is surely worth keeping; `quality` and `safety` are two of the members. A number
depends on its text alone.

D texts, M members.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.data.curate.quality_scorer import Scorer
from qianwen.data.filters.cross_fitting import LEAST, Row, balanced, out_of_fold_scores
from qianwen.data.filters.features import GOOD, LABELS, LOW, MEMBERS, UNFIT, Members, Perplexity, Scores, fit_members
from qianwen.data.filters.linear_classifier import Linear
from qianwen.data.filters.ngram_model import ORDER, NgramModel
from qianwen.data.filters.score_calibration import Standard, equal_error, fit_standard, groups, upper_quantile
from qianwen.runtime.atomic import atomic_folder, verify_folder
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr

FILTER = "filter.json"
VERSION = 2  # of the files of a folder; raise it when they, or what they mean, change
RARE = 0.002  # share of good texts of unseen sources above the limit of a member
RULES, QUALITY, SAFETY, PERPLEXITY = range(len(MEMBERS))
HARDEST = 0.11, 0.08  # share of good texts of the hardest calibration source above the middle, for each script
LEAST_SPREAD = 0.1  # of the standard deviation of all scores: the least distance from z = 0 to z = 1
QUALITY_WEIGHT = 1 / 3
SHORT = 50  # words at which the rules weigh half, in scripts with spaces


@dataclass(frozen=True)
class Ensemble:
    """The members and their calibration: `limits` [M, 2] and `middle` [2], for each script."""

    members: Members
    standards: tuple[Standard, ...]
    limits: np.ndarray
    middle: np.ndarray
    languages: tuple[str, ...]

    def logits(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """How far each text is above the limit of each member [D, M], and the vote [D]; above 0 it is dropped."""
        scores = self.members.scores(texts)
        z = _standardised(scores, self.standards)
        margins = z - self.limits.T[scores.script]
        low = _low(z, scores) - self.middle[scores.script]
        return margins, np.max([low, margins[:, SAFETY], margins[:, PERPLEXITY]], axis=0)

    def save(self, folder: Path) -> None:
        """Write the folder. Weights are stored in 16 bits, which is precise enough for them."""
        members = self.members
        arrays = {
            "rules": members.rules,
            "quality": members.quality.weights.astype(np.float16),
            "safety": members.safety.weights.astype(np.float16),
            "standards": np.stack([standard.lines for standard in self.standards]),
            "limits": self.limits,
            "middle": self.middle,
        } | {f"counts_{size}": counts for size, counts in enumerate(members.ngrams.counts)}
        facts = {
            "version": VERSION,
            "members": MEMBERS,
            "languages": self.languages,
            "quality_bias": members.quality.bias,
            "safety_bias": members.safety.bias,
            "window": members.safety.window,
            "words": members.ngrams.total,
        }
        with atomic_folder(folder) as temporary:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            (temporary / FILTER).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _standardised(scores: Scores, standards: Sequence[Standard]) -> np.ndarray:
    columns = zip(standards, scores.raw.T, strict=True)
    return np.stack([standard.z(column, scores.script) for standard, column in columns], axis=1)


def _low(z: np.ndarray, scores: Scores) -> np.ndarray:
    evidence = np.where(scores.script == 0, scores.words / (scores.words + SHORT), 1.0)
    return evidence * z[:, RULES] + QUALITY_WEIGHT * z[:, QUALITY]


def open_ensemble(folder: str | Path, perplexity: Perplexity | None = None) -> Ensemble:
    """The ensemble that `save` wrote. Raises ConfigError if there is none or it is of another version, and
    CheckpointError if it is damaged."""
    path = Path(folder)
    if not (path / FILTER).exists():
        raise ConfigError(tr("{path} contains no filter; train one with `qianwen data train-filter`", path=folder))
    verify_folder(path)
    facts: dict[str, Any] = json.loads((path / FILTER).read_text(encoding="utf-8"))
    if (version := facts.get("version", 1)) != VERSION:
        message = "{path}: filter format {version}, expected {current}; train it again with `qianwen data train-filter`"
        raise ConfigError(tr(message, path=folder, version=version, current=VERSION))
    array = {file.stem: np.load(file) for file in path.glob("*.npy")}
    members = Members(
        rules=array["rules"],
        quality=Linear(array["quality"].astype(np.float32), facts["quality_bias"]),
        safety=Linear(array["safety"].astype(np.float32), facts["safety_bias"], facts["window"]),
        ngrams=NgramModel(tuple(array[f"counts_{size}"] for size in range(ORDER)), facts["words"]),
        perplexity=perplexity,
    )
    standards = tuple(Standard(lines) for lines in array["standards"])
    return Ensemble(members, standards, array["limits"], array["middle"], tuple(facts["languages"]))


# ---- training ----------------------------------------------------------------------------------------------------


def train(rows: Sequence[Row], perplexity: Perplexity | None = None, calibration: Sequence[Row] = ()) -> Ensemble:
    """Fit members and calibration to rows of {"text", "label", "lang", "source"}. No member is trained on the rows of
    `calibration`: they are further sources for the scales, limits and middles.

    Raises DataError for an unknown label, or a label with fewer than LEAST texts.
    """
    _check_labels([row["label"] for row in rows], {row["label"] for row in calibration})
    rows = balanced(rows)
    texts, label = [row["text"] for row in rows], np.array([row["label"] for row in rows])

    def fit(texts: Sequence[str], label: np.ndarray) -> Members:
        return fit_members(texts, label, perplexity)

    members = fit(texts, label)
    scores = out_of_fold_scores(rows, fit).joined(members.scores([row["text"] for row in calibration]))
    further = np.array([""] * len(rows) + [row["source"] for row in calibration])
    rows = [*rows, *calibration]
    label = np.array([row["label"] for row in rows])
    weights, script = _weights(rows), scores.script
    good = label == GOOD
    standards = tuple(
        fit_standard(column[good], weights[good], script[good], LEAST_SPREAD * float(column.std()))
        for column in scores.raw.T
    )
    z = _standardised(scores, standards)
    limits = [
        [max(upper_quantile(column[here], weights[good][here], RARE), 1.0) for here in groups(script[good])]
        for column in z[good].T
    ]
    languages = tuple(sorted({row["lang"] for row in rows}))
    middle = _middle(_low(z, scores), label, weights, script, further)
    return Ensemble(members, standards, np.array(limits), middle, languages)


def _weights(rows: Sequence[Row]) -> np.ndarray:
    """One for the texts of each language, source and label together [D]."""
    kinds = [(row["lang"], row["source"], row["label"]) for row in rows]
    sizes = Counter(kinds)
    return np.array([1 / sizes[kind] for kind in kinds])


def _middle(
    low: np.ndarray, label: np.ndarray, weights: np.ndarray, script: np.ndarray, further: np.ndarray
) -> np.ndarray:
    """The value of `low` that HARDEST of the good texts of the hardest calibration source exceed, for each script [2].
    Without a source of LEAST texts, the value at which both errors are equal; for both scripts together where one lacks
    a label. `further` [D] is the name of the calibration source, empty for a training text."""
    prose = label != UNFIT
    middles = []
    for number in (0, 1):
        good = (further != "") & (label == GOOD) & (script == number)
        names, counts = np.unique(further[good], return_counts=True)
        chosen = [good & (further == name) for name in names[counts >= LEAST]]
        if chosen:
            middles.append(max(upper_quantile(low[one], weights[one], HARDEST[number]) for one in chosen))
            continue
        here = prose & (script == number)
        here = here if len(set(label[here])) == 2 else prose
        middles.append(equal_error(low[here], label[here] == LOW, weights[here]))
    return np.array(middles)


def _check_labels(labels: Sequence[str], further: set[str]) -> None:
    for name in LABELS:
        if (count := labels.count(name)) < LEAST:
            message = "only {count} texts have the label {name}; a filter needs {least}"
            raise DataError(tr(message, count=count, name=name, least=LEAST))
    if unknown := (set(labels) | further) - set(LABELS):
        raise DataError(tr("{label} is not a label; use good, low or unfit", label=min(unknown)))


# ---- as scorers of a curation ------------------------------------------------------------------------------------


def load(folder: str) -> Callable[[list[str]], list[float]]:
    """The vote."""
    ensemble = open_ensemble(folder)
    return lambda texts: _worth(ensemble.logits(texts)[1])


def as_scorer(folder: str, threshold: float = 0.5) -> Scorer:
    """The vote as a stage of a curation. It judges prose in the languages of its training texts only."""
    return Scorer(
        name="filter",
        function="qianwen.data.filters.vote:load",
        model=folder,
        threshold=threshold,
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
