"""The vote of the ensemble: which documents are worth training on (Qwen report, section 2.1).

    members     raw scores of a text                                                      (`features.py`)
    calibration log-odds of each member, on texts of sources it was not trained on        (`score_calibration.py`)
    low         ℓ = rules + quality + perplexity      log-odds of low quality, added as those of independent judges
    unfit       u = safety                            log-odds of abuse or obscenity
    dropped     a text that is low or unfit:          p = 1 − (1 − σ(ℓ)) (1 − σ(u))
    vote        logit(p) − limit                      a text is dropped above 0, which is a score below ½

A text is dropped for either reason, so its safety is no evidence of its quality: with a plain sum of the four, spam in
clean language was kept. `limit` is the middle of the vote, one number for each script: GOOD_LOSS of the good texts of
sources that no member was trained on are above it, each source with the same weight. So the default threshold means
"worse than 99 % of good texts", whatever the share of good and bad texts in the training labels.

A folder contains the ensemble. `load` is the vote as a scorer of a curation (`quality_scorer.py`): a number in [0, 1]
for each text, 1 for a text that is surely worth keeping; `quality` and `safety` are two of the members. A number depends
on its text alone.

D texts, M members.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.data.curate.quality_scorer import Scorer
from qianwen.data.filters.cross_fitting import LEAST, Row, balanced, out_of_fold_scores
from qianwen.data.filters.features import GOOD, LABELS, LOW, MEMBERS, UNFIT, Members, Perplexity, fit_members
from qianwen.data.filters.linear_classifier import Linear
from qianwen.data.filters.ngram_model import ORDER, NgramModel
from qianwen.data.filters.score_calibration import Platt, fit_platt, upper_quantile
from qianwen.runtime.atomic import atomic_folder, verify_folder
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr

FILTER = "filter.json"
VERSION = 2  # of the files of a folder; raise it when they, or what they mean, change
GOOD_LOSS = 0.01  # share of good texts of an unseen source that the vote may drop
SAFETY = MEMBERS.index("safety")


@dataclass(frozen=True)
class Ensemble:
    """The members, what their scores mean, and the limit of the vote for each script [2]."""

    members: Members
    platt: tuple[Platt, ...]
    limit: np.ndarray
    languages: tuple[str, ...]

    def logits(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds of each member [D, M], and the vote [D], that each text is to be dropped."""
        scores, script = self.members.scores(texts)
        logits = _calibrated(scores, script, self.platt)
        return logits, _low_or_unfit(logits) - self.limit[script]

    def save(self, folder: Path) -> None:
        """Write the folder. Weights are stored in 16 bits, which is precise enough for them."""
        members = self.members
        arrays = {
            "rules": members.rules,
            "quality": members.quality.weights.astype(np.float16),
            "safety": members.safety.weights.astype(np.float16),
            "platt": np.stack([platt.lines for platt in self.platt]),
            "limit": self.limit,
        }
        for name, model in (("good", members.good), ("low", members.low)):
            arrays |= {f"{name}_{size}": counts for size, counts in enumerate(model.counts)}
        facts = {
            "version": VERSION,
            "members": MEMBERS,
            "languages": self.languages,
            "quality_bias": members.quality.bias,
            "safety_bias": members.safety.bias,
            "window": members.safety.window,
            "good_words": members.good.total,
            "low_words": members.low.total,
        }
        with atomic_folder(folder) as temporary:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            (temporary / FILTER).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _calibrated(scores: np.ndarray, script: np.ndarray, platt: Sequence[Platt]) -> np.ndarray:
    return np.stack([line.logits(scores[:, number], script) for number, line in enumerate(platt)], axis=1)


def _low_or_unfit(logits: np.ndarray) -> np.ndarray:
    """logit of 1 − (1 − σ(ℓ))(1 − σ(u)), which is log((1 + e^ℓ)(1 + e^u) − 1) [D]."""
    unfit = logits[:, SAFETY]
    low = logits.sum(axis=1) - unfit
    return np.logaddexp(np.logaddexp(low, unfit), low + unfit)


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
    good, low = (
        NgramModel(tuple(array[f"{name}_{size}"] for size in range(ORDER)), facts[f"{name}_words"])
        for name in ("good", "low")
    )
    members = Members(
        rules=array["rules"],
        quality=Linear(array["quality"].astype(np.float32), facts["quality_bias"]),
        safety=Linear(array["safety"].astype(np.float32), facts["safety_bias"], facts["window"]),
        good=good,
        low=low,
        perplexity=perplexity,
    )
    platt = tuple(Platt(lines) for lines in array["platt"])
    return Ensemble(members, platt, array["limit"], tuple(facts["languages"]))


# ---- training ----------------------------------------------------------------------------------------------------


def train(rows: Sequence[Row], perplexity: Perplexity | None = None) -> Ensemble:
    """Fit members, calibration and limit to rows of {"text", "label", "lang", "source"}.

    Raises DataError for an unknown label, or a label with fewer than LEAST texts.
    """
    _check_labels([row["label"] for row in rows])
    rows = balanced(rows)
    texts, label = [row["text"] for row in rows], np.array([row["label"] for row in rows])

    def fit(texts: Sequence[str], label: np.ndarray) -> Members:
        return fit_members(texts, label, perplexity)

    scores, script = out_of_fold_scores(rows, fit)
    platt = _fit_calibration(scores, script, label)
    source = np.array([f"{row['lang']} {row['source']}" for row in rows])
    limit = _limits(_low_or_unfit(_calibrated(scores, script, platt)), script, label == GOOD, source)
    languages = tuple(sorted({row["lang"] for row in rows}))
    return Ensemble(fit(texts, label), platt, limit, languages)


def _check_labels(labels: Sequence[str]) -> None:
    for name in LABELS:
        if (count := labels.count(name)) < LEAST:
            message = "only {count} texts have the label {name}; a filter needs {least}"
            raise DataError(tr(message, count=count, name=name, least=LEAST))
    if unknown := set(labels) - set(LABELS):
        raise DataError(tr("{label} is not a label; use good, low or unfit", label=min(unknown)))


def _fit_calibration(scores: np.ndarray, script: np.ndarray, label: np.ndarray) -> tuple[Platt, ...]:
    """The log-odds that out-of-fold scores [D, M] mean: unfit against the rest for safety, low against good for the
    others."""
    platt = []
    for number in range(len(MEMBERS)):
        used = label != UNFIT if number != SAFETY else np.ones(len(label), dtype=bool)
        positive = label == (UNFIT if number == SAFETY else LOW)
        platt.append(fit_platt(scores[used, number], positive[used], script[used]))
    return tuple(platt)


def _limits(vote: np.ndarray, script: np.ndarray, good: np.ndarray, source: np.ndarray) -> np.ndarray:
    """For each script, the vote that GOOD_LOSS of the good texts exceed [2]; a script without good texts takes that
    of all."""
    limits = []
    for number in (0, 1):
        chosen = good & (script == number)
        chosen = chosen if chosen.any() else good
        _, inverse, counts = np.unique(source[chosen], return_inverse=True, return_counts=True)
        limits.append(upper_quantile(vote[chosen], 1 / counts[inverse], GOOD_LOSS))
    return np.array(limits)


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
