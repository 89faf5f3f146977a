from collections import Counter

from qianwen.align.dialogues import read_dialogues
from qianwen.align.system_prompts.material import material
from qianwen.align.system_prompts.training import (
    answered_by,
    dialogue_faults,
    model_rows,
    training_dialogues,
    write_dialogues,
)
from qianwen.chat.model import Delta


class Fixed:
    """A model with one answer for everything; counts its requests."""

    def __init__(self, text: str, finish_reason: str = "stop") -> None:
        self.text, self.finish_reason, self.count = text, finish_reason, 0

    def chat(self, messages, functions=(), **options):
        self.count += 1
        yield Delta(f"{self.text}", finish_reason=self.finish_reason)


def test_every_answer_obeys_and_kinds_and_languages_are_mixed():
    dialogues = list(training_dialogues(600, seed=7))
    assert not [each for each in dialogues if any(dialogue_faults(each, [turn.answer for turn in each.turns]))]
    kinds = Counter(dialogue.form.kind for dialogue in dialogues)
    assert set(kinds) == {"role", "style", "task", "behaviour"} and min(kinds.values()) >= 90
    rows = [dialogue.row([turn.answer for turn in dialogue.turns]) for dialogue in dialogues]
    assert Counter(row["language"] for row in rows) == {"en": 300, "zh": 300}
    assert {row["ability"] for row in rows} == {"role play", "writing", "nlp", "question answering"}
    pressed = [
        turn for each in dialogues for turn in each.turns if turn.question.startswith(tuple(material("en")["pressure"]))
    ]
    assert len(pressed) > 100, "users ask to drop the rule"
    assert len({dialogue.form.system for dialogue in dialogues}) > 150


def test_the_same_seed_gives_the_same_file_and_sft_reads_it(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        write_dialogues(tmp_path / name, 12, seed=1)
    write_dialogues(tmp_path / "c.jsonl", 12, seed=2)
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    assert a == b != c
    dialogues = list(read_dialogues(tmp_path / "a.jsonl"))
    assert [message.role for message in dialogues[0].messages] == ["system", *["user", "assistant"] * 6]


def test_an_answer_of_the_model_is_used_where_it_obeys():
    dialogues = (each for each in training_dialogues(200, seed=0) if "contains" in each.form.rules)
    dialogue = next(each for each in dialogues if each.form.language == "en")
    name = dialogue.form.rules["contains"][0]
    obeying, ignoring = Fixed(f"Well, {name}, it depends."), Fixed("It depends.")
    row = answered_by(obeying, dialogue, seed=0)
    assert row["own_answers"] == 1, "the second time it repeats itself"
    assert row["messages"][2]["content"] == obeying.text and row["messages"][4]["content"] == dialogue.turns[1].answer
    assert answered_by(ignoring, dialogue, seed=0)["own_answers"] == 0
    assert answered_by(Fixed(obeying.text, "length"), dialogue, seed=0)["own_answers"] == 0, "it was cut short"


def test_rows_on_the_disk_are_not_asked_again(tmp_path):
    dialogues, path = list(training_dialogues(6, seed=0)), tmp_path / "rows.jsonl"
    first = Fixed("Yes.")
    rows = list(model_rows(first, dialogues, path, seed=0, concurrency=2))
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: len(text) - 40], encoding="utf-8")  # a kill in the last row
    second = Fixed("Yes.")
    assert list(model_rows(second, dialogues, path, seed=0, concurrency=2)) == rows
    assert path.read_text(encoding="utf-8") == text and 0 < second.count <= 6 < first.count
