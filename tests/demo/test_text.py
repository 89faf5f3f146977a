"""What the demo learns from and what it is asked share nothing."""

import re
from pathlib import Path

import pytest

from qianwen.data.curate.corpus import CorpusConfig
from qianwen.demo.text import TextConfig, build_text
from qianwen.runtime.files import read_jsonl, write_jsonl

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe") for b in ("st", "rn", "lt", "x", "nd", "rk")]
THINGS = [f"Thing{i} is a made-up thing of kind number {i} in this text." for i in range(300)]


@pytest.fixture
def built(tmp_path: Path) -> tuple[Path, dict]:
    (tmp_path / "in").mkdir()
    rows = [{"text": text, "source": f"things:{i}", "lang": "en"} for i, text in enumerate(THINGS)]
    sums = ", ".join(f"{i} + {i} = {2 * i}" for i in range(10, 50))
    rows.append({"text": f"Everyone knows that {sums}.", "source": "x:1"})
    write_jsonl(tmp_path / "in" / "a.jsonl", rows)
    (tmp_path / "in" / "code.py").write_text('def run(x):\n    """Return what comes out of running x."""\n')
    config = TextConfig(
        corpus=CorpusConfig(held_out=0.2),
        num_sums=64,
        num_dialogues={"definition": 100, "arithmetic": 50, "docstring": 10},
        num_questions=20,
    )
    (tmp_path / "out").mkdir()
    return tmp_path / "out", build_text(tmp_path / "in", tmp_path / "out", config)


def questions(folder: Path, part: str) -> dict[str, str]:
    rows = read_jsonl(folder / "dialogues" / f"{part}.jsonl")
    return {row["messages"][0]["content"]: row["messages"][1]["content"] for row in rows}


def test_nothing_asked_was_learned(built: tuple[Path, dict]) -> None:
    folder, facts = built
    train, held_out = questions(folder, "train"), questions(folder, "held_out")
    assert not set(train) & set(held_out)
    learned = [row["text"] for part in (folder / "train").iterdir() for row in read_jsonl(part)]
    sums = "\n".join(text for text in learned if not text.startswith("Everyone"))
    problems = {question: re.search(r"\d+ \+ \d+", question) for question in held_out}
    secrets = [found[0] if (found := problems[question]) else answer for question, answer in held_out.items()]
    assert sum(bool(found) for found in problems.values()) == 20
    assert not [secret for secret in secrets if re.search(rf"(?<!\d){re.escape(secret)}(?!\d)", sums)]
    assert facts["dialogues"]["definition"] == 100 and facts["questions"]["definition"] == 20
    assert facts["questions"]["arithmetic"] == 20


def test_what_cannot_be_ruled_out_is_counted(built: tuple[Path, dict]) -> None:
    folder, facts = built
    everyone = [row for row in read_jsonl(folder / "train" / "documents.jsonl") if row["text"].startswith("Everyone")]
    assert bool(facts["sums_in_text"]) == bool(everyone)


def test_the_sample_is_of_the_held_out_text(built: tuple[Path, dict]) -> None:
    folder, _ = built
    held_out = {row["text"] for row in read_jsonl(folder / "held_out" / "documents.jsonl")}
    assert {row["text"] for row in read_jsonl(folder / "sample" / "held_out.jsonl")} <= held_out


def test_the_text_goes_through_the_data_chapter(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rows = [{"text": " ".join(f"{word}{i}" for word in WORDS), "source": f"things:{i}"} for i in range(60)]
    rows += [rows[0], {"text": f"{rows[1]['text']} again", "source": "things:near"}]
    rows += [{"text": "Write to somebody.known@known-place.net about these things.", "source": "things:mail"}]
    write_jsonl(source / "a.jsonl", rows)
    folder = tmp_path / "out"
    folder.mkdir()
    found = build_text(source, folder, TextConfig(corpus=CorpusConfig(held_out=0.3)))["curated"]
    assert found["read"] == 63 and found["kept"]["documents"] == 61
    assert found["dropped"]["duplicates"] == {"exact": 1, "near": 1}
    assert found["personal"] == {"EMAIL": 1}
    learned = [row["text"] for part in ("train", "held_out") for row in read_jsonl(folder / part / "documents.jsonl")]
    assert len(learned) == 61 and not [text for text in learned if "somebody.known" in text]
