"""How many documents were read, dropped and passed, by reason, language, corpus, length and licence."""

from collections import Counter, defaultdict
from typing import Any

from qianwen.data.curate.corpus import corpus_at
from qianwen.data.documents.document import Document

HEAD = 400  # characters of a dropped document that are kept to be read
DIMENSIONS = ("lang", "corpus", "length", "licence")  # by which documents are counted


def dimensions(lang: str, source: str, kind: str, licence: str, size: int) -> tuple[str, str, str, str]:
    """What a document counts under, for each of DIMENSIONS; its length is a power of two of bytes."""
    return lang, corpus_at(source, kind), str(max(size, 1).bit_length() - 1), licence


def dropped_row(stage: str, reason: str, source: str, text: str, detail: str, lang: str) -> dict[str, str]:
    """A dropped document as its row of `dropped.jsonl.zst`."""
    row = {"stage": stage, "reason": reason, "source": source, "detail": detail, "lang": lang}
    return row | {"head": text[:HEAD]}


class Tally:
    """What happened to the documents of a part."""

    def __init__(self) -> None:
        self.dropped: list[dict[str, Any]] = []
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.cells: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * 4)
        self.personal: Counter[str] = Counter()
        self.read = 0

    def drop(self, stage: str, reason: str, source: str, text: str = "", detail: str = "", lang: str = "") -> None:
        """Note a document that was dropped, and why: a DropReason or the name of a rule."""
        self.reasons[stage][reason] += 1
        self.dropped.append(dropped_row(stage, reason, source, text, detail[:HEAD], lang))

    def add(self, document: Document, *, passes: bool) -> None:
        """Count a document that could be read: documents and bytes, before and after."""
        text = document["text"]
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        cell = self.cells[dimensions(document["lang"], document["source"], document["kind"], document["licence"], size)]
        cell[0] += 1
        cell[1] += size
        if passes:
            cell[2] += 1
            cell[3] += size

    def counts(self) -> dict[str, Any]:
        """All counts, as `counts.json` of a part has them."""
        dropped = {name: dict(sorted(reasons.items())) for name, reasons in sorted(self.reasons.items())}
        by: dict[str, dict[str, list[int]]] = {name: {} for name in DIMENSIONS}
        for keys, cell in sorted(self.cells.items()):
            for name, key in zip(DIMENSIONS, keys, strict=True):
                by[name][key] = [a + b for a, b in zip(by[name].get(key, [0] * 4), cell, strict=True)]
        by = {name: dict(sorted(cells.items())) for name, cells in by.items()}
        return {"read": self.read, "dropped": dropped, "personal": dict(sorted(self.personal.items())), **by}
