"""The ensemble that decides what is worth learning from: filters that read, and their vote (Qwen report, section 2.1).

Its members (`features.py`) are calibrated (`score_calibration.py`) on texts of sources they did not see: of FOLDS parts
of the sources each is scored by members that the others taught; the members that are kept learn from all. So a member
that is sure only of what it knows has little to say. The vote is the sum of the members' log-odds that a text is to be
dropped, as if they judged independently. Weights fitted to the same texts would fit the few sources there are: they
voted worse on others (docs/log.md).

A folder holds the whole:  `load` is the vote, `quality` and `safety` two of its members, as a curation wants them
(`quality_scorer.py`): texts → numbers in [0, 1], 1 for what is surely worth keeping. Every number depends on its text
alone.

D texts, M members.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.data.curate.corpus import chance
from qianwen.data.curate.quality_scorer import Scorer
from qianwen.data.filters.features import LABELS, LOW, MEMBERS, UNFIT, Members, Perplexity, fit_members
from qianwen.data.filters.linear_classifier import Linear
from qianwen.data.filters.ngram_model import NgramModel
from qianwen.data.filters.score_calibration import Platt, fit_platt
from qianwen.runtime.atomic import atomic_folder, verify_folder
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr

FILTER = "filter.json"
LEAST = 20  # texts of a label, below which nothing is learned
FOLDS = 4  # more, and each takes its fit; fewer, and members are judged that know too little of what there is
TAUGHT = 16_000  # texts that teach the members of a fold, at most


@dataclass(frozen=True)
class Ensemble:
    """The members and what their scores mean."""

    members: Members
    platt: tuple[Platt, ...]
    languages: tuple[str, ...]

    def logits(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds that each text is to be dropped, of each member [D, M] and of the vote [D]."""
        scores, script = self.members.scores(texts)
        each = np.stack([one.logits(scores[:, number], script) for number, one in enumerate(self.platt)], axis=1)
        return each, each.sum(axis=1)

    def save(self, folder: Path) -> None:
        """Write the folder. Weights are kept to 16 bits: their rounding is far below what labels say."""
        members = self.members
        arrays = {
            "rules": members.rules,
            "quality": members.quality.weights.astype(np.float16),
            "safety": members.safety.weights.astype(np.float16),
            "platt": np.stack([one.lines for one in self.platt]),
        } | {f"counts_{n}": counts for n, counts in enumerate(members.ngrams.counts)}
        facts = {
            "members": MEMBERS,
            "languages": self.languages,
            "quality_bias": members.quality.bias,
            "safety_bias": members.safety.bias,
            "window": members.safety.window,
            "total": members.ngrams.total,
        }
        with atomic_folder(folder) as temporary:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            (temporary / FILTER).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def open_ensemble(folder: str | Path, perplexity: Perplexity | None = None) -> Ensemble:
    """The ensemble that `save` wrote. Raises ConfigError when there is none, CheckpointError when it is torn."""
    path = Path(folder)
    if not (path / FILTER).exists():
        raise ConfigError(tr("{path} contains no filter; train one with `qianwen data train-filter`", path=folder))
    verify_folder(path)
    facts: dict[str, Any] = json.loads((path / FILTER).read_text(encoding="utf-8"))
    array = {file.stem: np.load(file) for file in path.glob("*.npy")}
    members = Members(
        rules=array["rules"],
        quality=Linear(array["quality"].astype(np.float32), facts["quality_bias"]),
        safety=Linear(array["safety"].astype(np.float32), facts["safety_bias"], facts["window"]),
        ngrams=NgramModel(tuple(array[f"counts_{n}"] for n in range(3)), facts["total"]),
        perplexity=perplexity,
    )
    platt = tuple(Platt(lines) for lines in array["platt"])
    return Ensemble(members, platt, tuple(facts["languages"]))


# ---- fitting -----------------------------------------------------------------------------------------------------


def train(rows: Sequence[dict[str, str]], perplexity: Perplexity | None = None) -> Ensemble:
    """Fit members and calibration to rows of {"text", "label", "lang", "source"}.

    Raises DataError for an unknown label, or one of which there are too few.
    """
    texts, label = [row["text"] for row in rows], np.array([row["label"] for row in rows])
    for name in LABELS:
        if (count := int((label == name).sum())) < LEAST:
            raise DataError(
                tr(
                    "only {count} texts have the label {name}; a filter needs {least}",
                    count=count,
                    name=name,
                    least=LEAST,
                )
            )
    if strange := set(label) - set(LABELS):
        raise DataError(tr("{label} is not a label; use good, low or unfit", label=min(strange)))
    fold = _folds(rows, label)
    scores, script = np.zeros((len(rows), len(MEMBERS))), np.zeros(len(rows), dtype=np.int64)
    for number in range(FOLDS):
        teach, judge = _thinned(np.flatnonzero(fold != number), texts), np.flatnonzero(fold == number)
        members = fit_members([texts[one] for one in teach], label[teach], perplexity)
        scores[judge], script[judge] = members.scores([texts[one] for one in judge])
    languages = tuple(sorted({row["lang"] for row in rows}))
    return Ensemble(fit_members(texts, label, perplexity), _calibrated(scores, script, label), languages)


def _folds(rows: Sequence[dict[str, str]], label: np.ndarray) -> np.ndarray:
    """Which of the FOLDS each text is in [D]: by source, so that each fold has its share of every language and label;
    by text where sources are too few for that."""
    sizes = Counter((row["lang"], row["source"], row["label"]) for row in rows)
    sources: dict[tuple[str, str], dict[str, int]] = {}
    for (lang, source, name), size in sizes.items():
        sources.setdefault((lang, source), {})[name] = size
    filled: Counter[tuple[int, str, str]] = Counter()  # texts by fold, language, label
    place: dict[tuple[str, str], int] = {}
    for key in sorted(sources, key=lambda key: (-sum(sources[key].values()), key)):
        lang, has = key[0], sources[key]
        place[key] = min(range(FOLDS), key=lambda one: sum(filled[one, lang, name] * has[name] for name in has))
        filled.update({(place[key], lang, name): size for name, size in has.items()})
    fold = np.array([place[row["lang"], row["source"]] for row in rows])
    languages = {lang for lang, _ in sources}
    taught = {  # those of the other folds, of every language and label there is
        (number, lang, name): sum(filled[other, lang, name] for other in range(FOLDS) if other != number)
        for number in range(FOLDS)
        for lang in languages
        for name in LABELS
        if any(filled[one, lang, name] for one in range(FOLDS))
    }
    if min(taught.values()) >= LEAST:
        return fold
    return np.array([int(chance(row["text"], "fold") * FOLDS) for row in rows])


def _thinned(chosen: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """At most about TAUGHT of the texts, chosen by hash."""
    share = TAUGHT / max(len(chosen), 1)
    return chosen if share >= 1 else np.array([one for one in chosen if chance(texts[one], "teach") < share])


def _calibrated(scores: np.ndarray, script: np.ndarray, label: np.ndarray) -> tuple[Platt, ...]:
    """What the scores [D, M] of texts mean whose sources the scorers did not see."""
    found = []
    for number, name in enumerate(MEMBERS):
        judged = label != UNFIT if name != "safety" else np.ones(len(label), dtype=bool)
        wanted = label == (UNFIT if name == "safety" else LOW)
        found.append(fit_platt(scores[judged, number], wanted[judged], script[judged]))
    return tuple(found)


# ---- as a curation wants them ------------------------------------------------------------------------------------


def load(folder: str) -> Callable[[list[str]], list[float]]:
    """The vote."""
    ensemble = open_ensemble(folder)
    return lambda texts: _worth(ensemble.logits(texts)[1])


def as_scorer(folder: str, threshold: float = 0.5) -> Scorer:
    """The vote as a stage of a curation, for prose in the languages it learned; of others it knows nothing."""
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
