import json
import re
from pathlib import Path

import numpy as np
import pytest

from qianwen.data.filters import vote as scorers
from qianwen.data.filters.features import MEMBERS
from qianwen.data.filters.filter_report import Judged, write_report
from qianwen.data.filters.vote import as_scorer, load, open_ensemble, quality, safety, train
from qianwen.runtime.errors import CheckpointError, ConfigError, DataError

GENERATOR = np.random.default_rng(0)
PROSE = "the river rises in the hills and flows through several towns before it meets the sea where a harbour was built"
EDITED = re.findall(r"\S+", PROSE)
CHATTER = re.findall(r"\S+", "lol omg buy now cheap click here win free $$$ pls rt follow me haha ok u")
ABUSE = ["scoundrel", "rotten", "villain"]
CHINESE = list("河流发源于山区经过几座城镇然后流入大海那里建有港口")
NOISE = list("哈买点击赢免费关注转发啦吧呵哟")


def written(words: list[str], gap: str, end: str) -> str:
    return gap.join(GENERATOR.choice(words, 30)).strip() + end


def rows(count: int, source: str) -> list[dict[str, str]]:
    made = []
    for number in range(count):
        made += [
            {"text": written(EDITED, " ", f" in {number}."), "label": "good", "lang": "en"},
            {"text": written(CHATTER, " ", f" {number}!!!"), "label": "low", "lang": "en"},
            {"text": written(EDITED, " ", f" {number}, ") + GENERATOR.choice(ABUSE), "label": "unfit", "lang": "en"},
            {"text": written(CHINESE, "", f"，{number}年。"), "label": "good", "lang": "zh"},
            {"text": written(NOISE, "", f"{number}！！"), "label": "low", "lang": "zh"},
            {"text": written(CHINESE, "", f"{number}混蛋"), "label": "unfit", "lang": "zh"},
        ]
    return [{**row, "source": source} for row in made]


@pytest.fixture(scope="module")
def ensemble() -> scorers.Ensemble:
    return train(rows(80, "learned"))


UNSEEN = rows(40, "unseen")


def test_unseen_texts_are_told_apart_by_member_and_vote(ensemble: scorers.Ensemble) -> None:
    measured = Judged(ensemble, UNSEEN).measured()
    for lang in ("en", "zh"):
        assert measured[lang]["quality auc"] > 0.99 and measured[lang]["safety auc"] > 0.95
        assert measured[lang]["vote auc"] > 0.95


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
    fold = scorers._folds(texts, label)
    for source in {row["source"] for row in texts}:
        assert len(set(fold[[row["source"] == source for row in texts]])) == 1
    for number in range(scorers.FOLDS):
        assert set(label[fold != number]) == {"good", "low", "unfit"}
    low = [set(fold[[row["source"] == f"low {number}" for row in texts]]) for number in range(4)]
    assert len(set.union(*low)) == 4, "each kind of low text is judged by those who know the others"


def test_a_number_depends_on_its_text_alone(ensemble: scorers.Ensemble) -> None:
    texts = [row["text"] for row in UNSEEN[:12]]
    each, vote = ensemble.logits(texts)
    again = [ensemble.logits([text]) for text in texts]
    assert each == pytest.approx(np.concatenate([one for one, _ in again]))
    assert vote == pytest.approx(np.concatenate([one for _, one in again]))


def test_a_saved_filter_is_a_scorer_of_a_curation(ensemble: scorers.Ensemble, tmp_path: Path) -> None:
    ensemble.save(tmp_path / "filter")
    texts = [row["text"] for row in UNSEEN]
    worth = np.array(load(str(tmp_path / "filter"))(texts))
    assert ((worth >= 0) & (worth <= 1)).all() and load(str(tmp_path / "filter"))([]) == []
    assert ((worth < 0.5) == (ensemble.logits(texts)[1] > 0)).mean() > 0.99  # weights have 16 bits
    label = np.array([row["label"] for row in UNSEEN])
    assert np.mean(np.array(quality(str(tmp_path / "filter"))(texts))[label == "low"]) < 0.2
    assert np.mean(np.array(safety(str(tmp_path / "filter"))(texts))[label == "unfit"]) < 0.2


def test_a_curation_judges_only_prose_in_the_languages_learned(ensemble: scorers.Ensemble, tmp_path: Path) -> None:
    ensemble.save(tmp_path / "filter")
    scorer = as_scorer(str(tmp_path / "filter"))
    assert scorer.judges("en", "text") and scorer.judges("zh", "docs")
    assert not scorer.judges("fr", "text") and not scorer.judges("python", "code")
    assert scorer.load()([UNSEEN[0]["text"]])[0] > 0.5


def test_absence_and_damage_are_told(ensemble: scorers.Ensemble, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train-filter"):
        open_ensemble(tmp_path)
    ensemble.save(tmp_path / "filter")
    (tmp_path / "filter" / "platt.npy").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        open_ensemble(tmp_path / "filter")


def test_a_transformers_perplexity_takes_the_ngrams_place() -> None:
    learned = rows(40, "learned")
    asked: list[int] = []

    def nats(texts: list[str]) -> list[float]:
        asked.append(len(texts))
        return [float("lol" in text) for text in texts]

    found = train(learned, perplexity=nats)
    before = sum(asked)
    found.logits([row["text"] for row in UNSEEN[:6]])
    assert sum(asked) == before + 6


def test_labels_are_checked() -> None:
    learned = rows(40, "x")
    with pytest.raises(DataError, match="nice is not a label"):
        train([{**learned[0], "label": "nice"}, *learned[1:]])
    with pytest.raises(DataError, match="only 0 texts have the label unfit"):
        train([{**row, "label": "low"} if row["label"] == "unfit" else row for row in learned])


def test_the_report_shows_what_each_drops(ensemble: scorers.Ensemble, tmp_path: Path) -> None:
    judged = Judged(ensemble, UNSEEN)
    measured = write_report(tmp_path, judged)
    drops = [json.loads(line) for line in (tmp_path / "drops.jsonl").read_text().splitlines()]
    assert {row["dropped by"] for row in drops} >= {"quality", "safety"} and set(drops[0]["log-odds"]) == {
        *MEMBERS,
        "vote",
    }
    assert all(row["log-odds"][row["dropped by"]] > 0 for row in drops if row["dropped by"] in MEMBERS)
    page = (tmp_path / "report.html").read_text()
    assert "scoundrel" in page and "vote / best member" in page
    assert measured["all"]["false positives, vote"] <= 1
