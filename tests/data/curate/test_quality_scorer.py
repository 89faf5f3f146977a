"""Scorers: numbers of texts that drop documents, by name, and what is no scorer is said at once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from qianwen.data.curate.quality_scorer import BINS, Scorer, histogram, scores
from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.files import atomic_folder


def test_only_what_is_to_be_judged_gets_a_number() -> None:
    scorer = Scorer(name="length", function="collections:Counter")
    asked: list[str] = []

    def score(texts: list[str]) -> Sequence[float]:
        asked.extend(texts)
        return [0.25] * len(texts)

    found = scores(scorer, score, ["a", "b", "c"], np.array([True, False, True]))
    assert asked == ["a", "c"] and found[0] == found[2] == 0.25 and np.isnan(found[1])


def test_languages_and_code_decide_what_is_judged() -> None:
    english = Scorer(name="a", function="m:f", languages=("en",))
    assert english.judges("en", "web") and not english.judges("th", "web") and not english.judges("python", "code")
    assert Scorer(name="a", function="m:f").judges("th", "web")
    assert Scorer(name="a", function="m:f", code=True).judges("python", "code")


@pytest.mark.parametrize("answer", [[0.5], [0.5, 1.5], [0.5, float("nan")], [-0.1, 0.5]])
def test_what_is_no_score_of_each_text_is_refused(answer: list[float]) -> None:
    with pytest.raises(DataError, match="odd returned"):
        scores(Scorer(name="odd", function="m:f"), lambda _: answer, ["a", "b"], np.ones(2, dtype=bool))


@pytest.mark.parametrize(
    "given", [{"name": "two words"}, {"name": ""}, {"name": "a", "threshold": 1.5}], ids=["words", "empty", "threshold"]
)
def test_what_cannot_be_a_scorer_is_refused(given: dict) -> None:
    with pytest.raises(ConfigError):
        Scorer(function="m:f", **given)


@pytest.mark.parametrize("function", ["no_such_module:f", "json:none", "json"])
def test_a_function_that_is_not_there_is_named(function: str) -> None:
    with pytest.raises(ConfigError, match=f"quality: {function}"):
        Scorer(name="quality", function=function).load()


def test_another_model_has_another_mark_and_a_damaged_one_none(tmp_path: Path) -> None:
    def mark(content: str) -> str:
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "weights").write_text(content)
        return Scorer(name="a", function="m:f", model=str(tmp_path / "model")).model_hash()

    assert mark("one") == mark("one") != mark("two")
    (tmp_path / "model" / "weights").write_text("new")
    with pytest.raises(CheckpointError, match="changed"):
        Scorer(name="a", function="m:f", model=str(tmp_path / "model")).model_hash()


def test_every_number_is_in_one_bin() -> None:
    bins = histogram(np.array([0.0, 0.049, 0.05, 1.0, np.nan]))
    assert len(bins) == BINS and bins[0] == 2 and bins[1] == 1 and bins[-1] == 1 and sum(bins) == 4
