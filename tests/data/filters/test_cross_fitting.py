"""Scores of texts by members that were trained on other sources."""

import numpy as np
import pytest

from qianwen.data.filters import cross_fitting
from qianwen.data.filters.cross_fitting import FOLDS, balanced, folds, out_of_fold_scores
from qianwen.data.filters.features import MEMBERS, Scores


def rows(sizes: dict[tuple[str, str, str], int]) -> list[dict[str, str]]:
    return [
        {"text": f"{source} {label} {number}", "label": label, "lang": lang, "source": source}
        for (lang, source, label), size in sizes.items()
        for number in range(size)
    ]


class Remembering:
    """Members that score 1 for a text of a source they were trained on, and 0 for others."""

    def __init__(self, texts: list[str], label: np.ndarray) -> None:
        self.sources = {text.split()[0] for text in texts}
        assert len(texts) == len(label)

    def scores(self, texts: list[str]) -> Scores:
        known = np.array([text.split()[0] in self.sources for text in texts], dtype=float)
        ones = np.ones(len(texts), dtype=np.int64)
        return Scores(np.tile(known[:, None], len(MEMBERS)), ones, 3 * ones)


def test_no_text_is_scored_by_members_that_know_its_source() -> None:
    names = {"good": "abcdefgh", "low": "ijklmno", "unfit": "pqrstu"}
    made = rows({("en", source, label): 40 for label, sources in names.items() for source in sources})
    scores = out_of_fold_scores(made, Remembering)  # type: ignore[arg-type]
    assert scores.raw.shape == (len(made), len(MEMBERS)) and not scores.raw.any()
    assert (scores.script == 1).all() and (scores.words == 3).all()


def test_with_too_few_sources_texts_are_divided_and_every_text_is_still_scored() -> None:
    made = rows({("en", "only", label): 60 for label in ("good", "low", "unfit")})
    fold = folds(made, np.array([row["label"] for row in made]))
    assert sorted(set(fold)) == list(range(FOLDS))
    scores = out_of_fold_scores(made, Remembering)  # type: ignore[arg-type]
    assert scores.raw.all(), "the source is known, but not the text"


@pytest.mark.parametrize("size", [10, 400, 2000])
def test_no_source_and_label_has_more_than_its_share(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(cross_fitting, "LARGEST", 300)
    made = rows({("en", "a", "good"): size, ("en", "a", "low"): 50, ("zh", "a", "good"): size, ("en", "b", "good"): 1})
    left = balanced(made)
    count = {
        key: sum((row["lang"], row["source"], row["label"]) == key for row in left)
        for key in [
            ("en", "a", "good"),
            ("zh", "a", "good"),
            ("en", "a", "low"),
            ("en", "b", "good"),
        ]
    }
    assert count["en", "a", "low"] == 50 and count["en", "b", "good"] == 1
    for lang in ("en", "zh"):
        assert count[lang, "a", "good"] == pytest.approx(min(size, 300), rel=0.2)
    assert balanced(made) == left and balanced(made[::-1]) == left[::-1], "the order of the rows does not matter"


def test_folds_split_by_source_and_leave_every_label_to_the_others() -> None:
    """Calibrated on halves, one half once had all Chinese chatter, and the other turned the filter around."""
    sizes = {("zh", "good"): (300, 200, 100), ("zh", "low"): (900, 600, 50, 40), ("zh", "unfit"): (500, 400)}
    texts = [
        {"text": f"{name} {number} {one}", "label": name, "lang": lang, "source": f"{name} {number}"}
        for (lang, name), counts in sizes.items()
        for number, count in enumerate(counts)
        for one in range(count)
    ]
    label = np.array([row["label"] for row in texts])
    fold = folds(texts, label)
    for source in {row["source"] for row in texts}:
        assert len(set(fold[[row["source"] == source for row in texts]])) == 1
    for number in range(FOLDS):
        assert set(label[fold != number]) == {"good", "low", "unfit"}
    low = [set(fold[[row["source"] == f"low {number}" for row in texts]]) for number in range(4)]
    assert len(set.union(*low)) == 4, "each kind of low text is judged by those who know the others"
