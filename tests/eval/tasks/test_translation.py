"""Translation: prompts, worked examples that are no questions, and scores that are sacrebleu's."""

from pathlib import Path

import pytest

from qianwen.eval.task import Answer, Complete, Scored, TaskOptions
from qianwen.eval.tasks.translation import MAX_TOKENS, RESERVED, Wmt22, spread
from qianwen.runtime.errors import ConfigError, DataError

ENGLISH = [f"Sentence number {number} is about a cat." for number in range(1, 13)]
CHINESE = [f"第{number}句话讲的是一只猫。" for number in range(1, 13)]


def write(folder: Path, sources: list[str], targets: list[str], pair: str = "zh-en") -> Path:
    source, target = pair.split("-")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"generaltest2022.{pair}.src.{source}").write_text("\n".join(sources) + "\n", "utf-8")
    (folder / f"generaltest2022.{pair}.ref.A.{target}").write_text("\n".join(targets) + "\n", "utf-8")
    return folder


def task(data: Path, shots: int | None = None, source: str = "zh", target: str = "en") -> Wmt22:
    return Wmt22(TaskOptions(data=data, shots=shots), source, target)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "wmt22", CHINESE, ENGLISH)
    write(tmp_path / "wmt22", ENGLISH, CHINESE, "en-zh")
    return tmp_path


def test_a_prompt_has_worked_examples_and_ends_before_the_answer(data: Path) -> None:
    first = next(iter(task(data, shots=1).examples()))
    line = spread(12)[RESERVED]
    assert first.prompt == (
        "Translate from Chinese to English.\n\n"
        f"Chinese: {CHINESE[0]}\nEnglish: {ENGLISH[0]}\n\n"
        f"Chinese: {CHINESE[line]}\nEnglish:"
    )
    assert first.stop == ("\n",) and first.max_tokens == MAX_TOKENS
    assert first.facts == {"line": line + 1, "source": CHINESE[line], "target": ENGLISH[line]}


@pytest.mark.parametrize("shots", [None, 0, 1, 2, 5])
def test_no_worked_example_is_a_question_with_any_number_of_shots(data: Path, shots: int | None) -> None:
    examples = list(task(data, shots).examples())
    assert len(examples) == 12 - RESERVED
    assert {each.facts["line"] - 1 for each in examples} == set(range(12)) - set(spread(12)[:RESERVED])
    for each in examples:
        assert each.prompt.count("Chinese:") == (5 if shots is None else shots) + 1
        assert each.facts["target"] not in each.prompt


@pytest.mark.parametrize("count", [1, 2, 7, 8, 12, 100, 1875, 2037])
def test_the_order_has_every_line_once_and_every_beginning_is_spread(count: int) -> None:
    order = spread(count)
    assert sorted(order) == list(range(count))
    if count >= 100:
        quarters = [sum(first <= line * 4 / count < first + 1 for line in order[:40]) for first in range(4)]
        assert min(quarters) >= 8


@pytest.mark.parametrize("place", ["folder", "file", "compressed", "windows", "bom"])
def test_the_files_are_found_where_they_may_be(tmp_path: Path, place: str) -> None:
    import gzip

    folder = write(tmp_path / "wmt22", CHINESE, ENGLISH)
    source = folder / "generaltest2022.zh-en.src.zh"
    if place == "compressed":
        for path in sorted(folder.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    elif place == "windows":
        source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    elif place == "bom":
        source.write_text(source.read_text("utf-8"), "utf-8-sig")
    examples = list(task({"folder": folder, "file": source}.get(place, tmp_path)).examples())
    assert [each.facts["source"] for each in examples] == [CHINESE[line] for line in spread(12)[RESERVED:]]


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        (CHINESE, ENGLISH[:-1], "12 lines, but .*ref.A.en has 11"),
        (CHINESE[:5], ENGLISH[:5], "5 lines; 5 are worked examples, so at least 6 are needed"),
        ([*CHINESE[:3], "", *CHINESE[4:]], ENGLISH, "src.zh, line 4 is empty"),
        (CHINESE, [*ENGLISH[:11], " "], "ref.A.en, line 12 is empty"),
        ([""], [""], "line 1 is empty"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, sources, targets, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(task(write(tmp_path, sources, targets)).examples())


def test_a_missing_reference_is_refused_by_name(tmp_path: Path) -> None:
    (write(tmp_path, CHINESE, ENGLISH) / "generaltest2022.zh-en.ref.A.en").unlink()
    with pytest.raises(DataError, match="ref"):
        list(task(tmp_path).examples())
    with pytest.raises(DataError, match="en-zh"):
        list(task(tmp_path, source="en", target="zh").examples())


@pytest.mark.parametrize("shots", [-1, 6, 100])
def test_more_shots_than_there_are_reserved_lines_are_refused(data: Path, shots: int) -> None:
    with pytest.raises(ConfigError, match=f"from 0 to 5; got {shots}"):
        list(task(data, shots).examples())


def scored(asked: Wmt22, texts: list[str]) -> list[Scored]:
    rows = []
    for example, text in zip(asked.examples(), texts, strict=True):
        assert isinstance(example, Complete)
        answer = Answer(text=f" {text} ")
        rows.append(Scored(example, answer, asked.score(example, answer)))
    return rows


@pytest.mark.parametrize("direction", [("zh", "en"), ("en", "zh")])
@pytest.mark.parametrize("kind", ["right", "near", "empty", "other", "short"])
def test_scores_are_those_of_sacrebleu(data: Path, direction: tuple[str, str], kind: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="translation needs sacrebleu, of the extra `eval`")
    asked = task(data, None, *direction)
    targets = [example.facts["target"] for example in asked.examples()]
    texts = {
        "right": targets,
        "near": [text.replace("cat", "dog").replace("猫", "狗") for text in targets],
        "empty": [""] * len(targets),
        "other": ["Something else.", *targets[1:]],
        "short": [text[:9] for text in targets],
    }[kind]
    metrics = asked.estimates(scored(asked, texts))
    tokenize = {"en": "13a", "zh": "zh"}[direction[1]]
    assert metrics["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(texts, [targets], tokenize=tokenize).score)
    assert metrics["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(texts, [targets]).score)
    for each in metrics.values():
        assert each.low - 1e-6 <= each.value <= each.high + 1e-6 and each.num_examples == len(targets)
    if kind in ("right", "empty", "other"):  # only in the last do the sentences differ in their scores
        assert (metrics["bleu"].low < metrics["bleu"].high) == (kind == "other")


def test_metrics_do_not_depend_on_when_they_are_computed(data: Path) -> None:
    pytest.importorskip("sacrebleu", reason="translation needs sacrebleu, of the extra `eval`")
    asked = task(data)
    rows = scored(asked, ENGLISH[: 12 - RESERVED])
    assert asked.estimates(rows) == asked.estimates(rows)


def test_an_empty_translation_was_not_parsed_and_nothing_is_right_or_wrong(data: Path) -> None:
    pytest.importorskip("sacrebleu", reason="translation needs sacrebleu, of the extra `eval`")
    asked = task(data)
    example = next(iter(asked.examples()))
    empty, full = asked.score(example, Answer(text="\n")), asked.score(example, Answer(text=example.facts["target"]))
    assert (empty.extracted, empty.verdict, empty.shares["bleu"].amount) == (None, "unjudged", 0)
    assert full.shares["bleu"].amount == pytest.approx(100) and full.shares["chrf"].amount == pytest.approx(100)


def test_settings_name_the_shots_and_how_the_score_is_computed(data: Path) -> None:
    pytest.importorskip("sacrebleu", reason="translation needs sacrebleu, of the extra `eval`")
    settings = task(data, 2, "en", "zh").settings()
    assert settings["shot_lines"] == [line + 1 for line in spread(12)[:2]]
    assert settings["template"] == "Translate from English to Chinese.\n\nEnglish: SOURCE\nChinese:"
    bleu, chrf = settings["signatures"]
    assert bleu.startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:")
    assert chrf.startswith("chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_the_published_files_have_their_lines(shared: Path) -> None:
    for source, target, count in (("zh", "en", 1875), ("en", "zh", 2037)):
        examples = list(task(shared / "data" / "benchmarks", None, source, target).examples())
        assert len(examples) == count - RESERVED
