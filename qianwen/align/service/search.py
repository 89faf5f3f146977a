"""Web search with citation: question, search call, numbered results, an answer that cites them as [1][2].

    one source     the answer is in one of the results
    two sources    half of the answer is in one result and half in another; each sentence cites its own
    no source      no result has the answer, and the assistant says so instead of inventing it

The "web" are local texts: definitions in the documents of a corpus, and the plain answers of this package. Each answer
consists of sentences of its sources, and `citations.py` checks every dialogue before it is written.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qianwen.align.plain_answers import SPACE, plain_answers
from qianwen.align.sentences import sentences
from qianwen.align.service.citations import citation_faults
from qianwen.align.service.rows import call, calling, result, service_row
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.data.documents.document import Document

KINDS = ("search, one source", "search, two sources", "search, no source")
MAX_OTHERS = 3  # results that do not have the answer
MAX_PASSAGE = 420  # characters of a result
MIN_PARAGRAPH = {"en": 40, "zh": 18}  # characters; shorter ones are headings
MAX_PER_DOCUMENT = 2
NOT_PAGES = ("code", "book")  # kinds of documents whose sentences of this form are seldom definitions
DEFINITION = {
    "en": re.compile(
        r"(?P<subject>(?:An? )?[A-Za-z][A-Za-z-]{2,20}(?: [a-z-]{3,20}){0,2}) (?P<verb>is|are) (?:an? |the |one of )"
        r"[a-z][^|{}\\<>*`_\[\]=:]{30,200}\."
    ),
    "zh": re.compile(r"(?P<subject>[\u4e00-\u9fff]{2,8})是(?:一种|一个|一类|一组|指)[^|{}\\<>*`_\[\]=:：]{12,110}。"),
}
VAGUE = {  # beginnings of sentences that have the form of a definition but are none
    "en": re.compile(
        r"(?:an? )?(?:above|all|although|and|another|answer|any|because|below|but|chapter|clearly|each|every|example"
        r"|figure|first|following|goal|however|important|hence|here|idea|if|it|its|last|next|not|one|other|our|people|point|problem|question|reason|result"
        r"|second|section|since|so|some|somewhat|state|such|that|the|their|then|there|therefore|these|this|those|thus|what|when"
        r"|where|which|while|why|your)s?\b.*",
        re.IGNORECASE,
    ),
    "zh": re.compile(
        r"[这那它其此该本上下在如由虽因但所当每各第然以并]..*|.*[们的了就也都还只常]|.*恰好|.*(?:如下|结果|问题|目的|原因|例子|时候|方法|可以|应该|可能|参数|变量)"
    ),
}
TOOL = {
    "en": FunctionSpec(
        "web_search",
        "Search the web. Returns numbered results; cite them in the answer as [1], [2].",
        {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "Words to search for"}},
            "required": ["query"],
        },
    ),
    "zh": FunctionSpec(
        "web_search",
        "搜索网页，返回带编号的结果；回答时用 [1]、[2] 注明来源。",
        {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "搜索词"}},
            "required": ["query"],
        },
    ),
}
THOUGHT = {"en": "I will search the web for this and cite the sources.", "zh": "我先搜索网页，再注明来源回答。"}
NO_SOURCE = {
    "en": "The search results do not answer this question, so I cannot name a source for it.",
    "zh": "搜索结果中没有这个问题的答案，因此我无法给出有来源的回答。",
}


@dataclass(frozen=True)
class Page:
    """A question, the sentences that answer it, and the text in which they are."""

    question: str
    answer: tuple[str, ...]
    title: str
    text: str


def plain_pages(language: str) -> list[Page]:
    """The plain answers of this package as pages."""
    space = SPACE[language]
    return [
        Page(plain.question, plain.sentences, plain.question, space.join(plain.sentences))
        for plain in plain_answers(language)
    ]


def definition_pages(documents: Iterable[Document], language: str) -> list[Page]:
    """A page for each definition in the documents, with the paragraph around it; each subject once."""
    pages: dict[str, Page] = {}
    for document in documents:
        if document["kind"] in NOT_PAGES:
            continue
        found = 0
        for paragraph in document["text"].split("\n\n"):
            text = (" " if language == "en" else "").join(line.strip() for line in paragraph.splitlines())
            page = (
                _definition(text, document, language)
                if MIN_PARAGRAPH[language] <= len(text) <= 3 * MAX_PASSAGE
                else None
            )
            if page and page.question.lower() not in pages and found < MAX_PER_DOCUMENT:
                pages[page.question.lower()] = page
                found += 1
    return list(pages.values())


def _definition(paragraph: str, document: Document, language: str) -> Page | None:
    for sentence in sentences(paragraph):
        match = DEFINITION[language].fullmatch(sentence)
        if match is None or VAGUE[language].fullmatch(match["subject"]):
            continue
        passage = paragraph[paragraph.find(sentence) :][:MAX_PASSAGE]
        text = SPACE[language].join(each for each in sentences(passage) if each[-1] in ".!?。！？")
        return Page(_question(match, document["text"], language), (sentence,), document["source"], text)
    return None


def _question(match: re.Match[str], text: str, language: str) -> str:
    subject = match["subject"]
    if language == "zh":
        return f"什么是{subject}？"
    lowered = subject[0].lower() + subject[1:]  # of a common noun: it is written so elsewhere in the document
    is_common = subject.startswith(("A ", "An ")) or re.search(rf"\b{re.escape(lowered)}\b", text)
    return f"What {match['verb']} {lowered if is_common else subject}?"


class SearchDialogues:
    """Draws dialogues in one language over `pages`; the same seed gives the same dialogues."""

    def __init__(self, language: str, pages: Sequence[Page], seed: int) -> None:
        self.language, self.pages, self.space = language, pages, SPACE[language]
        self.several = [page for page in pages if len(page.answer) > 1]
        self.draw = random.Random(f"{seed}/{language}/search")

    def row(self, kind: str) -> dict[str, Any]:
        """A new dialogue of a kind of `KINDS`. Its citations hold."""
        is_two = kind == "search, two sources"
        page = self.draw.choice(self.several if is_two else self.pages)
        others = [other for other in self.draw.sample(self.pages, MAX_OTHERS + 1) if other != page]
        passages = [(other.title, other.text) for other in others[: self.draw.randint(2, MAX_OTHERS)]]
        if kind == "search, no source":
            return self._row(kind, page, passages, NO_SOURCE[self.language])
        halves = _halves(page) if is_two else [page.answer]
        own = [(page.title, self.space.join(half) if is_two else page.text) for half in halves]
        passages = self._shuffled(passages + own)
        numbers = [passages.index(each) + 1 for each in own]
        cited = [_cite(sentence, n) for half, n in zip(halves, numbers, strict=True) for sentence in half[:2]]
        answer = self.space.join(cited)
        faults = citation_faults(answer, [text for _, text in passages])
        assert not faults, f"{faults}: {answer} {passages}"
        return self._row(kind, page, passages, answer)

    def _shuffled(self, passages: list[tuple[str, str]]) -> list[tuple[str, str]]:
        self.draw.shuffle(passages)
        return passages

    def _row(self, kind: str, page: Page, passages: Sequence[tuple[str, str]], answer: str) -> dict[str, Any]:
        made = call(1, "web_search", {"query": page.question.rstrip("?？")})
        found = "\n\n".join(f"[{number}] {title}\n{text}" for number, (title, text) in enumerate(passages, start=1))
        messages = [
            Message("user", page.question),
            calling(THOUGHT[self.language], made),
            result(made, found),
            Message("assistant", answer),
        ]
        return service_row(messages, [TOOL[self.language]], kind, self.language)


def _halves(page: Page) -> list[tuple[str, ...]]:
    middle = len(page.answer) // 2
    return [page.answer[:middle], page.answer[middle:]]


def _cite(sentence: str, number: int) -> str:
    """The citation is before the mark at the end: "Air scatters blue light [2]." """
    return (
        f"{sentence[:-1]} [{number}]{sentence[-1]}"
        if sentence.isascii()
        else f"{sentence[:-1]}[{number}]{sentence[-1]}"
    )
