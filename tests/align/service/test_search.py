import json
import re

import pytest

from qianwen.align.service.citations import citation_faults, cited
from qianwen.align.service.search import KINDS, NO_SOURCE, SearchDialogues, definition_pages, plain_pages
from qianwen.data.documents.document import Document

TEXT = """A quoin is a wedge of wood that keeps a stack of barrels from rolling. It is put under the lowest row.

This is a sentence of the same form, but it is no definition of anything that has a name.

However it is a matter of taste, and the second chapter will come back to it in some detail."""


def document(text: str, lang: str = "en", kind: str = "textbook") -> Document:
    return Document(text=text, source="book:1", lang=lang, licence="CC0-1.0", kind=kind)


def results_of(row) -> list[str]:
    return re.split(r"\n\n(?=\[\d+\])", row["messages"][2]["content"])


def test_definitions_are_found_and_vague_subjects_are_not():
    (page,) = definition_pages([document(TEXT)], "en")
    assert page.question == "What is a quoin?" and page.answer[0].startswith("A quoin is a wedge")
    assert page.text.endswith("lowest row.")
    (page,) = definition_pages(
        [document("面包是一种用面粉和水烘烤而成的常见食物。\n\n这是一种没有名称的东西，因此不是定义。", "zh")], "zh"
    )
    assert page.question == "什么是面包？"
    assert not definition_pages([document(TEXT, kind="code")], "en")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_citation_holds(kind, language):
    dialogues = SearchDialogues(language, plain_pages(language), seed=3)
    for _ in range(40):
        row = dialogues.row(kind)
        question, call, _, answer = row["messages"]
        assert json.loads(call["tool_calls"][0]["function"]["arguments"])["query"] in question["content"]
        if kind == "search, no source":
            assert answer["content"] == NO_SOURCE[language]
            assert not any(question["content"] in text for text in results_of(row))
            continue
        assert citation_faults(answer["content"], results_of(row)) == []
        assert len(cited(answer["content"])) == (2 if kind == "search, two sources" else 1)
        assert 3 <= len(results_of(row)) <= 5


def test_the_source_is_at_different_places():
    dialogues = SearchDialogues("en", plain_pages("en"), seed=0)
    places = {cited(dialogues.row("search, one source")["messages"][-1]["content"])[0] for _ in range(60)}
    assert places == {1, 2, 3, 4}
