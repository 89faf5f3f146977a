import json
import re
from pathlib import Path

import numpy as np
import pytest

from qianwen.data.filters import vote as scorers
from qianwen.data.filters.features import MEMBERS, Scores
from qianwen.data.filters.filter_report import Judged, write_report
from qianwen.data.filters.score_calibration import Standard
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
        assert measured[lang]["vote auc"] > 0.8  # a limit set on few good texts is strict: unfit prose is just below
        assert measured[lang]["good dropped"] == 0 and measured[lang]["low or unfit dropped"] > 0.5


class Fixed:
    """Members with given scores of texts that are numbers in a list: "1 2 3 4"."""

    def __init__(self, script: int, words: int) -> None:
        self.script, self.words = script, words

    def scores(self, texts: list[str]) -> Scores:
        raw = np.array([list(map(float, text.split())) for text in texts])
        return Scores(raw, np.full(len(texts), self.script), np.full(len(texts), self.words))


@pytest.mark.parametrize(
    ("rules", "quality", "safety", "perplexity", "vote"),
    [
        (0, 0, 0, 0, -1.0),  # the median good text
        (2, 0, 0, 0, 1.0),
        (0, 6, 0, 0, 1.0),  # quality weighs a third
        (2, -6, 0, 0, -1.0),  # rules and quality are weighed against each other
        (2, 0, -9, -9, 1.0),  # but clean language and usual words do not make spam worth keeping
        (-5, -9, 4, 0, 1.0),  # unfit, however well written
        (-5, -9, 0, 4, 1.0),  # words in no order
        (2, 3, 5, 9, 6.0),  # the strongest reason
    ],
)
def test_a_text_is_dropped_for_any_reason(
    rules: float, quality: float, safety: float, perplexity: float, vote: float
) -> None:
    scales = tuple(Standard(np.array([[0.0, 1.0], [0.0, 1.0]])) for _ in MEMBERS)
    fixed = scorers.Ensemble(Fixed(1, 9), scales, np.full((4, 2), 3.0), np.ones(2), ("zh",))  # type: ignore[arg-type]
    assert MEMBERS == ("rules", "quality", "safety", "perplexity")
    margins, votes = fixed.logits([f"{rules} {quality} {safety} {perplexity}"])
    assert votes == pytest.approx([vote])
    assert margins.tolist() == [[rules - 3, quality - 3, safety - 3, perplexity - 3]]


@pytest.mark.parametrize(("words", "vote"), [(0, -1.0), (50, 0.5), (950, 1.85)])
def test_with_few_words_the_rules_say_little(words: int, vote: float) -> None:
    scales = tuple(Standard(np.array([[0.0, 1.0], [0.0, 1.0]])) for _ in MEMBERS)
    fixed = scorers.Ensemble(Fixed(0, words), scales, np.full((4, 2), 9.0), np.ones(2), ("en",))  # type: ignore[arg-type]
    assert fixed.logits(["3 0 0 0"])[1] == pytest.approx([vote])


def test_the_middle_is_where_both_errors_are_equal_and_unfit_texts_do_not_move_it() -> None:
    low = np.concatenate([np.linspace(0, 1, 101), np.linspace(0.8, 1.8, 101), np.full(50, -9.0)])
    label = np.array(["good"] * 101 + ["low"] * 101 + ["unfit"] * 50)
    weights, script, none = np.ones(252), np.zeros(252, dtype=np.int64), np.full(252, "")
    assert scorers._middle(low, label, weights, script, none) == pytest.approx([0.9, 0.9], abs=0.011)
    weights[101:202] = 1e-3  # the number of texts of a label does not move it either
    assert scorers._middle(low, label, weights, script, none) == pytest.approx([0.9, 0.9], abs=0.011)


def test_the_hardest_calibration_source_sets_the_middle_of_its_script() -> None:
    low = np.concatenate(
        [np.linspace(0, 1, 101), np.linspace(0.8, 1.8, 101), np.linspace(-1, 0, 101), np.ones(500) * -9]
    )
    label = np.array(["good"] * 101 + ["low"] * 101 + ["good"] * 601)
    weights, script = np.ones(803), np.zeros(803, dtype=np.int64)
    further = np.array([""] * 202 + ["news"] * 101 + ["manual"] * 500)
    middle = scorers._middle(low, label, weights, script, further)
    assert (low[further == "news"] > middle[0]).mean() == pytest.approx(scorers.HARDEST[0], abs=0.005)
    assert scorers._middle(low, label, weights, script, np.where(further == "manual", "", further))[0] == middle[0]
    assert middle[1] > 0.8  # no text of the other script: both errors of all texts
    few = np.where(np.arange(803) < 202 + scorers.LEAST - 1, further, "")
    assert scorers._middle(low, label, weights, script, few)[0] == middle[1]


def test_each_source_and_label_weighs_the_same() -> None:
    made = [{"lang": "en", "source": "a", "label": "good", "text": ""}] * 4
    made += [{"lang": "en", "source": "b", "label": "good", "text": ""}, {**made[0], "label": "low"}]
    assert scorers._weights(made).tolist() == [0.25] * 4 + [1, 1]


def test_in_another_script_a_calibration_of_its_own(ensemble: scorers.Ensemble) -> None:
    lines = np.stack([standard.lines for standard in ensemble.standards])
    assert lines.shape == (4, 2, 2) and not np.allclose(lines[:, 0], lines[:, 1])
    assert ensemble.middle.shape == (2,) and ensemble.limits.shape == (4, 2)


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
    unseen = of_source(8, 40) + of_source(9, 40)
    label = np.array([row["label"] for row in unseen])
    vote = trained.logits([row["text"] for row in unseen])[1]
    assert (vote[label == "good"] > 0).mean() <= 0.05 and (vote[label != "good"] > 0).mean() >= 0.8


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
    assert np.mean(np.array(safety(str(tmp_path / "filter"))(texts))[label == "unfit"]) < 0.5
    assert np.mean(np.array(safety(str(tmp_path / "filter"))(texts))[label == "good"]) > 0.9


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
    (tmp_path / "filter" / "standards.npy").write_bytes(b"x")
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


def test_further_sources_set_the_limits_and_train_no_member(ensemble: scorers.Ensemble) -> None:
    """Good texts that look like chatter, of a calibration source: the vote keeps them, and the members are the same."""
    odd = [{**row, "label": "good"} for row in rows(60, "odd") if row["label"] == "low" and row["lang"] == "en"]
    texts = [row["text"] for row in odd]
    calibrated = train(rows(80, "learned"), calibration=odd)
    scores = calibrated.members.scores(texts)
    low = scorers._low(scorers._standardised(scores, calibrated.standards), scores)
    assert (low > calibrated.middle[0]).mean() <= scorers.HARDEST[0]
    assert (ensemble.logits(texts)[1] > 0).mean() > 0.9
    assert calibrated.members.quality.bias == pytest.approx(ensemble.members.quality.bias, abs=0.1)
    with pytest.raises(DataError, match="nice is not a label"):
        train(rows(30, "learned"), calibration=[{**odd[0], "label": "nice"}])
