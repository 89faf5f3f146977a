"""Cross-fitting: scores of training texts by members that were trained on other sources.

A member is confident about texts like those it was trained on, and about these alone. What its scores mean for a new
source is only visible on sources that it has not seen. So the sources are divided into FOLDS folds, and the texts of
each fold are scored by members trained on the other folds. The fold members and the final members are trained on about
equally many texts of every source (`balanced`), so a score means the same for both.

D texts, M members.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qianwen.data.curate.corpus import chance
from qianwen.data.filters.features import MEMBERS, Members, Scores

LEAST = 20  # texts of a label that are needed to train
FOLDS = 4  # with more, each adds the time of a fit; with fewer, the members of a fold have seen too few sources
LARGEST = 2_000  # texts of one source and label that members are trained on

Row = Mapping[str, str]
Fit = Callable[[Sequence[str], np.ndarray], Members]


def out_of_fold_scores(rows: Sequence[Row], fit: Fit) -> Scores:
    """Scores of every row by members trained on other sources."""
    texts, label = [row["text"] for row in rows], np.array([row["label"] for row in rows])
    fold = folds(rows, label)
    numbers = np.zeros((2, len(rows)), dtype=np.int64)
    scores = Scores(np.zeros((len(rows), len(MEMBERS))), *numbers)
    for number in range(FOLDS):
        train, judge = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        members = fit([texts[row] for row in train], label[train])
        for whole, part in zip(scores, members.scores([texts[row] for row in judge]), strict=True):
            whole[judge] = part
    return scores


def balanced(rows: Sequence[Row]) -> list[Row]:
    """At most about LARGEST rows of each language, source and label, chosen by the hash of the text."""
    sizes = Counter(_kind(row) for row in rows)
    return [row for row in rows if chance(row["text"], "balance") * sizes[_kind(row)] < LARGEST]


def _kind(row: Row) -> tuple[str, str, str]:
    return row["lang"], row["source"], row["label"]


def folds(rows: Sequence[Row], label: np.ndarray) -> np.ndarray:
    """The fold of each text [D]. All texts of a source are in one fold, and each fold gets its share of every language
    and label. If a fold would leave fewer than LEAST texts of a language and label to train on, texts are divided by
    their hash instead of by source."""
    sources: dict[tuple[str, str], dict[str, int]] = {}
    for (lang, source, name), size in Counter(map(_kind, rows)).items():
        sources.setdefault((lang, source), {})[name] = size
    filled: Counter[tuple[int, str, str]] = Counter()  # texts by fold, language and label
    place: dict[tuple[str, str], int] = {}
    # Greedy: the largest source first, into the fold with the fewest texts of its language and labels.
    for key in sorted(sources, key=lambda key: (-sum(sources[key].values()), key)):
        lang, sizes = key[0], sources[key]
        place[key] = min(
            range(FOLDS), key=lambda number: sum(filled[number, lang, name] * sizes[name] for name in sizes)
        )
        filled.update({(place[key], lang, name): size for name, size in sizes.items()})
    totals: Counter[tuple[str, str]] = Counter()
    for (_, lang, name), size in filled.items():
        totals[lang, name] += size
    left = [total - filled[number, lang, name] for (lang, name), total in totals.items() for number in range(FOLDS)]
    if min(left) >= LEAST:
        return np.array([place[row["lang"], row["source"]] for row in rows])
    return np.array([int(chance(row["text"], "fold") * FOLDS) for row in rows])
