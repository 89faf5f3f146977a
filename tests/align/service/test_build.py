import json
from collections import Counter

import pytest

from qianwen.align.service import build
from qianwen.align.service.build import (
    DIALOGUES,
    GROUPS,
    REWRITES,
    ServiceConfig,
    rewrite_rows,
    service_rows,
    write_rows,
)
from qianwen.chat.model import Delta
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_jsonl


def printed(program: str) -> tuple[bool, str]:
    """As if every program printed three numbers, and those with a known error failed."""
    return ("amounts" not in program), "1\n2\n3"


class Same:
    """Gives every text back as it is; counts its requests."""

    count = 0

    def chat(self, messages, functions=(), **options):
        self.count += 1
        yield Delta(messages[-1].text.rpartition("\n")[2], finish_reason="stop")


def test_kinds_and_languages_have_equal_shares_and_no_dialogue_comes_twice(tmp_path):
    rows = list(service_rows(ServiceConfig(count=200, groups=("calls", "search")), (), printed))
    counts = Counter(row["kind"] for row in rows)
    assert set(counts) == {*GROUPS["calls"], *GROUPS["search"]} and set(counts.values()) == {20}
    assert Counter(row["language"] for row in rows) == {"en": 100, "zh": 100}
    assert len({json.dumps(row["messages"]) for row in rows}) == 200
    assert write_rows(rows, tmp_path)["dialogues"] == 200 and list(read_jsonl(tmp_path / DIALOGUES)) == rows


def test_a_seed_fixes_the_rows():
    first, again, other = (
        json.dumps(list(service_rows(ServiceConfig(count=20, groups=("calls",), seed=seed), (), printed)))
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_when_no_other_dialogue_is_left_it_says_how_many_there_are(monkeypatch):
    class OneDialogue:
        def __init__(self, language, seed):
            self.language = language

        def row(self, kind):
            return {"messages": [self.language, kind]}

    monkeypatch.setattr(build, "CallDialogues", OneDialogue)
    with pytest.raises(DataError, match="only 14 different dialogues"):
        list(service_rows(ServiceConfig(count=20, groups=("calls",)), (), printed))


def test_rewriting_goes_on_where_it_was(tmp_path):
    config = ServiceConfig(count=10, groups=("calls",), concurrency=2)
    rows, model = list(service_rows(config, (), printed)), Same()
    first = list(rewrite_rows(model, rows, config, tmp_path))
    count = model.count
    assert [row["messages"] for row in first] == [row["messages"] for row in rows] and count > 10
    lines = (tmp_path / REWRITES).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / REWRITES).write_text("".join(lines[:9]), encoding="utf-8")
    assert list(rewrite_rows(model, rows, config, tmp_path)) == first and model.count <= count + 2
