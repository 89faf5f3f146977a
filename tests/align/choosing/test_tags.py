import json

import pytest

from qianwen.align.choosing.tags import (
    MAX_TAGS,
    SCHEMA,
    missing_questions,
    normalised,
    read_tags,
    reply_tags,
    without_rare,
    write_tags,
)
from qianwen.chat.model import Delta


class Tagger:
    """Tags a question with its words; counts its requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def chat(self, messages, functions=(), *, response_format=None, **sampling):
        assert response_format is SCHEMA and sampling["temperature"] == 0
        self.asked.append(messages[-1].text)
        yield Delta(json.dumps({"tags": messages[-1].text.split()}), finish_reason="stop")


@pytest.mark.parametrize(
    ("tag", "spelling"),
    [
        ("Data_Structures", "data structure"),
        ("bug-fixing", "bug fixing"),
        ("Ｐｙｔｈｏｎ", "python"),
        ("C++", "c++"),
        ("physics class", "physic class"),
        ("analysis", "analysis"),
        ("数据分析。", "数据分析"),
        ("!!", ""),
    ],
)
def test_spellings_of_a_tag_become_one(tag, spelling):
    assert normalised(tag) == spelling and normalised(spelling) == spelling


def test_a_reply_that_is_not_the_requested_json_has_no_tags():
    for reply in ("", "python, bug", "[1]", '{"tags": 3}', '{"tags": [1, null]}', '{"tags": ["py', "[" * 100_000):
        assert reply_tags(reply) == []
    assert reply_tags('{"tags": ["Bugs", "bug", " ", "写作"]}') == ["bug", "写作"]
    assert len(reply_tags(json.dumps({"tags": list("abcdefghij")}))) == MAX_TAGS


def test_rare_tags_are_removed_by_their_number_of_rows():
    rows = [frozenset({"a", "b"}), frozenset({"a"}), frozenset({"c"})]
    assert without_rare(rows, 2) == [{"a"}, {"a"}, set()] and without_rare(rows, 1) == rows


def test_only_missing_questions_are_requested_again_after_a_kill(tmp_path):
    path, model = tmp_path / "tags.jsonl", Tagger()
    questions = ["red box", "blue box", "red box", "写 诗"]
    assert missing_questions(path, questions, "m") == ["red box", "blue box", "写 诗"]
    tagging = write_tags(model, path, missing_questions(path, questions, "m"), "m", 1)
    next(tagging)
    tagging.close()
    with path.open("a") as file:
        file.write('{"key": "half')
    rest = missing_questions(path, ["new", *questions], "m")
    assert rest == ["new", "blue box", "写 诗"]
    assert len(list(write_tags(model, path, rest, "m", 2))) == 3
    assert read_tags(path, questions, "m") == [{"red", "box"}, {"blue", "box"}, {"red", "box"}, {"写", "诗"}]
    assert missing_questions(path, questions, "m") == [] and len(missing_questions(path, questions, "another")) == 3
