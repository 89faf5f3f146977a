"""The tags of a page that matter before it is parsed: how deep it is nested, and what its <meta> tags say.

Only the places of `<` are looked at, found by NumPy in one pass, so this takes a small part of the parser's time.
Comments, scripts, styles and titles hold no tags. A <meta> counts wherever it is: browsers move one that is outside the
head into the document, too, and a long style sheet may be before it.
"""

import html
import re
from collections.abc import Iterable, Iterator

import numpy as np

from qianwen.data.documents.encodings import USER_DEFINED, encoding_of

UNENDED = frozenset(
    b"p li td tr th dd dt option br img hr input meta link area base col embed source track wbr".split()
)
TAG = re.compile(rb"<(/?)([a-zA-Z]\w*)")
RAW = re.compile(rb"<(script|style|title|textarea)[\s/>]", re.I)  # elements that hold no tags
RAW_ENDS = {name: re.compile(rb"</" + name + rb"[\s/>]", re.I) for name in (b"script", b"style", b"title", b"textarea")}
META = re.compile(rb"<meta[\s/]", re.I)
ATTRIBUTE = re.compile(rb"""[\s/]*([^\s/>"'=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]*)))?""")
LONGEST_META = 4096  # bytes of one <meta> that are looked at
XML_DECLARATION = re.compile(rb"""\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([^"'>]{1,40})["']""")
CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';,]+)""", re.I)


class Tags:
    """Where the tags of a page begin."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._marks = np.frombuffer(data + b"  ", dtype=np.uint8)
        self._places = np.flatnonzero(self._marks[:-2] == ord("<"))

    def depth(self, limit: int) -> int:
        """How deep elements are nested at most, or a number up to `limit` that is not less than that."""
        after = self._marks[self._places + 1]
        steps = ((after | 32) - ord("a") < 26).astype(np.int64) - (after == ord("/"))
        roughly = int(np.cumsum(steps).max(initial=0))
        if roughly <= limit:  # counts elements that need no end, too
            return roughly
        depth = deepest = 0
        for match in TAG.finditer(self._data):
            if match[2].lower() not in UNENDED:
                depth += -1 if match[1] else 1
                deepest = max(deepest, depth)
        return deepest

    def metas(self) -> Iterator[dict[str, str]]:
        """The attributes of every <meta> tag; names are in lower case."""
        end = 0  # of the comment or element that holds no tags
        for place in self._candidates():
            if place < end:
                continue
            if META.match(self._data, place):
                yield _attributes(self._data[place + 5 : place + LONGEST_META])
            else:
                end = self._end_of_raw(place)

    def _candidates(self) -> list[int]:
        """Where `<me`, `<!-`, `<sc`, `<st`, `<ti` and `<te` are, in any case."""
        first, second = self._marks[self._places + 1] | 32, self._marks[self._places + 2] | 32
        wanted = ((first == ord("m")) & (second == ord("e"))) | (first == ord("!"))
        wanted |= (first == ord("s")) & ((second == ord("c")) | (second == ord("t")))
        wanted |= (first == ord("t")) & ((second == ord("i")) | (second == ord("e")))
        return self._places[wanted].tolist()

    def _end_of_raw(self, place: int) -> int:
        """The end of the comment or raw element that begins here; `place` if none does."""
        if self._data.startswith(b"<!--", place):
            close = self._data.find(b"-->", place + 2)
            return close if close >= 0 else place  # a comment that never ends is not one
        if opening := RAW.match(self._data, place):
            close = RAW_ENDS[opening[1].lower()].search(self._data, opening.end())
            return close.start() if close else len(self._data)
        return place


def _attributes(tag: bytes) -> dict[str, str]:
    """The attributes of a tag up to its `>`; of one that comes twice, the first."""
    attributes: dict[str, str] = {}
    place = 0
    while match := ATTRIBUTE.match(tag, place):
        value = next((group for group in match.groups()[1:] if group is not None), b"")
        attributes.setdefault(match[1].decode("latin-1").lower(), html.unescape(value.decode("latin-1")).strip())
        place = match.end()
    return attributes


def declared_encodings(metas: Iterable[dict[str, str]], data: bytes) -> list[str]:
    """The labels that the page itself names, in order."""
    labels = [label for meta in metas if (label := meta.get("charset") or _content_type(meta))]
    if declaration := XML_DECLARATION.match(data):
        labels.append(declaration[1].decode("latin-1"))
    return [_of_page(label) for label in labels]


def _of_page(label: str) -> str:
    """What browsers take the label of a page for: one whose tags were read as ASCII is not in UTF-16."""
    encoding = encoding_of(label)
    return "utf-8" if encoding.startswith("utf-16") else "windows-1252" if encoding == USER_DEFINED else label


def _content_type(meta: dict[str, str]) -> str:
    return charset_of(meta.get("content", "")) if meta.get("http-equiv", "").lower() == "content-type" else ""


def charset_of(content_type: str) -> str:
    """`gb2312` of `text/html; charset=gb2312`; empty if there is none."""
    match = CHARSET.search(content_type)
    return match[1] if match else ""
