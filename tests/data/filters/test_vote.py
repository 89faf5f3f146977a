import json
import re
from pathlib import Path

import numpy as np
import pytest

from qianwen.data.filters import vote as scorers
from qianwen.data.filters.features import MEMBERS
from qianwen.data.filters.filter_report import Judged, write_report
from qianwen.data.filters.vote import as_scorer, load, open_ensemble, quality, safety, train
from qianwen.runtime.atomic import atomic_folder
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


def test_a_text_is_dropped_for_either_reason() -> None:
    """Safety is no evidence of quality: spam in clean language is still spam."""
    quality = [name for name in MEMBERS if name != "safety"]

    def vote(low: float, unfit: float) -> float:
        logits = {name: low / len(quality) for name in quality} | {"safety": unfit}
        return float(scorers._low_or_unfit(np.array([[logits[name] for name in MEMBERS]]))[0])

    for low, unfit in [(0.0, 0.0), (3.0, -2.0), (-1.0, 2.5), (-4.0, -6.0), (9.0, 8.0), (-20.0, 12.0)]:
        keep = (1 - 1 / (1 + np.exp(-low))) * (1 - 1 / (1 + np.exp(-unfit)))
        assert vote(low, unfit) == pytest.approx(np.log((1 - keep) / keep), abs=1e-6)
    assert vote(6.0, -12.0) == pytest.approx(6.0, abs=1e-3) and vote(-12.0, 6.0) == pytest.approx(6.0, abs=1e-3)
    assert vote(-12.0, -12.0) < -11


def test_the_limit_bounds_the_loss_of_good_texts_with_every_source_alike() -> None:
    vote = np.concatenate([np.linspace(0, 1, 1000), np.linspace(5, 6, 100)])  # a large easy source, a small hard one
    source = np.array(["easy"] * 1000 + ["hard"] * 100)
    good, script = np.ones(1100, dtype=bool), np.zeros(1100, dtype=np.int64)
    limit = scorers._limits(vote, script, good, source)[0]
    lost = [float((vote[source == name] > limit).mean()) for name in ("easy", "hard")]
    assert np.mean(lost) <= scorers.GOOD_LOSS and np.mean(lost) == pytest.approx(scorers.GOOD_LOSS, abs=0.006)
    bad = np.where(np.arange(1100) % 2 == 0, 50.0, vote)  # bad texts do not move it, however many there are
    assert scorers._limits(bad, script, np.arange(1100) % 2 == 1, source)[0] == pytest.approx(limit, abs=0.02)


def test_each_script_has_a_limit_and_one_without_good_texts_takes_that_of_all() -> None:
    vote, good = np.array([1.0, 2.0, 7.0, 8.0]), np.ones(4, dtype=bool)
    source = np.array(["a"] * 4)
    assert scorers._limits(vote, np.array([0, 0, 1, 1]), good, source).tolist() == [2.0, 8.0]
    assert scorers._limits(vote, np.array([0, 0, 0, 0]), good, source).tolist() == [8.0, 8.0]


def test_the_default_drops_bad_texts_of_unseen_sources_and_keeps_good_ones() -> None:
    """With several sources: their words differ, and a third of each source's words is in no other source."""

    def of_source(number: int, count: int) -> list[dict[str, str]]:
        own = [f"{stem}{number}" for stem in ("bel", "dor", "mip", "sul", "tav", "wen", "kor", "fid", "lum", "pag")]
        made = []
        for row in rows(count, f"source {number}"):
            if row["lang"] == "en":
                words = row["text"].split()
                words[::3] = GENERATOR.choice(own, len(words[::3])).tolist()
                made.append({**row, "text": " ".join(words), "source": f"{row['label']} {number}"})
        return made

    trained = train([row for number in range(8) for row in of_source(number, 40)])
    unseen = of_source(99, 150)
    label = np.array([row["label"] for row in unseen])
    vote = trained.logits([row["text"] for row in unseen])[1]
    assert (vote[label == "good"] > 0).mean() <= 0.03 and (vote[label != "good"] > 0).mean() >= 0.8


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


@pytest.mark.parametrize("version", [None, 1, 3])
def test_a_filter_of_another_version_is_refused_with_what_to_do(
    ensemble: scorers.Ensemble, tmp_path: Path, version: int | None
) -> None:
    ensemble.save(tmp_path / "filter")
    facts = json.loads((tmp_path / "filter" / "filter.json").read_text())
    del facts["version"]
    facts |= {"version": version} if version else {}
    with atomic_folder(tmp_path / "old") as folder:
        for file in (tmp_path / "filter").glob("*.npy"):
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "filter.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=rf"filter format {version or 1}, expected 2; train it again"):
        load(str(tmp_path / "old"))


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
