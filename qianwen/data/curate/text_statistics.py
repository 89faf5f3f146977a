"""What the rules count, for a whole batch of documents at once: characters by class, lines, runs of words.

A number for every document comes out of sums over arrays of characters, words or lines (`text_arrays.py`); a class of
characters is one bit of a table that is looked up once.

C characters, W words, L lines, T tokens (what stands between white space, as Gopher counts words), D documents.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qianwen.data.documents.markup import KINDS
from qianwen.data.text_arrays import LETTER, SEPARATOR, STEP, TABLE, Texts, mixed, tables

UNSPACED = frozenset({"zh", "zh-Hant", "wuu", "yue", "ja", "th", "lo", "km", "my"})
UNMARKED = frozenset({"th", "lo"})  # languages that end sentences with a space alone
CHINESE = frozenset({"zh", "zh-Hant", "wuu", "yue"})
CLASSES = {
    "bullet": "•‣▪▫◦●○■□∙·*-–—",
    "sentence": ".!?。．｡！？؟।۔։።။។༎",
    "terminal": ".!?\"'”’“»。｡！？…」』）．؟।۔։።။។៕༎",
    "quote": "\"'”’)",
    "curly": "{}",
    "digit": "0123456789",
    "chinese stop": "的是了在和有不这這我一与與也就",
    "chinese mark": "，。！？；：、,.!?;:「」《》（）",
    "shout": "!！",
    "question": "?？",
    "pause": ",;，；、",
    "bracket": "(（",
    "money": "$%£€¥￥",
    "machine": "@/_=*",
    "capital": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
}
CLASS_BITS = {name: np.uint16(1 << number) for number, name in enumerate([*CLASSES, "letter"])}


class Batch(Texts):
    """Texts with what the rules know of them: `lang` (ISO 639, or a programming language) and `kind`."""

    def __init__(self, texts: Sequence[str], langs: Sequence[str], kinds: Sequence[str]) -> None:
        super().__init__(texts)
        self.langs, self.is_code = langs, np.array([kind == "code" for kind in kinds], dtype=bool)
        self.is_markup = np.array([kind in KINDS for kind in kinds], dtype=bool)
        self.is_chinese = np.array([lang in CHINESE for lang in langs], dtype=bool) & ~self.is_code
        self.is_spaced = np.array([lang not in UNSPACED for lang in langs], dtype=bool) & ~self.is_code
        self.is_english = np.array([lang == "en" for lang in langs], dtype=bool) & ~self.is_code
        self.is_prose = ~self.is_code
        self.is_marked = np.array([lang not in UNMARKED for lang in langs], dtype=bool) & ~self.is_code

    def share(self, counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """counts / totals, 0 where there is nothing."""
        return counts / np.maximum(totals, 1)

    def by_line(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over each document of a number given for every line [D]."""
        return np.bincount(self.line_document, weights=numbers, minlength=len(self))

    @functools.cached_property
    def _classes(self) -> np.ndarray:
        return _class_table().take(self.places)

    def are(self, name: str) -> np.ndarray:
        """Whether each character is of the class [C]: one lookup serves them all."""
        return (self._classes & CLASS_BITS[name]) != 0

    @functools.cached_property
    def tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """Start and end of what stands between white space [T]."""
        ink = np.concatenate([[False], ~self.spaces])
        edges = np.flatnonzero(ink[1:] != ink[:-1])
        return edges[::2], edges[1::2]

    @functools.cached_property
    def num_tokens(self) -> np.ndarray:
        return np.diff(np.searchsorted(self.tokens[0], self.first_char))

    @functools.cached_property
    def num_ink(self) -> np.ndarray:
        """Characters that are not white space [D]."""
        return self.per_document(~self.spaces)

    @functools.cached_property
    def line_length(self) -> np.ndarray:
        return self.line_end - self.line_start

    @functools.cached_property
    def repeated_lines(self) -> np.ndarray:
        """Whether a line was in the document before [L]."""
        _, first = np.unique(_keyed(self.line_hash, self.line_document), return_index=True)
        repeated = np.ones(len(self.line_hash), dtype=bool)
        repeated[first] = False
        return repeated

    @functools.cached_property
    def letters(self) -> np.ndarray:
        """Characters of all words before each word, and at last of all [W + 1]."""
        return np.concatenate([[0], np.cumsum(self.word_end - self.word_start)])

    @functools.cached_property
    def num_letters(self) -> np.ndarray:
        return self.letters[self.first_word[1:]] - self.letters[self.first_word[:-1]]

    @functools.cached_property
    def runs_again(self) -> dict[int, "Again"]:
        """Runs of 2 to 10 words that are more than once in their document, of languages with spaces.

        A longer run can be there twice only if its beginning is: each size looks only at what the last one left.
        """
        words = np.flatnonzero(self.is_spaced[self.word_document])
        found = {}
        for size in range(2, 11):
            found[size] = again(self, words, size)
            words = found[size].begin
        return found

    @functools.cached_property
    def longest_line(self) -> np.ndarray:
        longest = np.zeros(len(self), dtype=np.int64)
        np.maximum.at(longest, self.line_document, self.line_length)
        return longest


@functools.cache
def _class_table() -> np.ndarray:
    table = np.zeros(TABLE, dtype=np.uint16)
    for name, characters in CLASSES.items():
        table[[ord(character) for character in characters]] |= CLASS_BITS[name]
    kinds = tables()[0]
    numbers = [code for code in np.flatnonzero(kinds == LETTER).tolist() if code < 0x2E80 and chr(code).isnumeric()]
    table[kinds != SEPARATOR] |= CLASS_BITS["letter"]  # letters and marks of every script
    table[numbers] &= ~CLASS_BITS["letter"]
    return table


def _keyed(hashes: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Hashes that are the same only within a document."""
    return hashes ^ mixed(documents.astype(np.uint64))


class Again(NamedTuple):
    """Runs of words that are there more than once, the same ones together: the word each begins with, and where in
    that array each new run starts.
    """

    begin: np.ndarray
    first: np.ndarray


def again(batch: Batch, words: np.ndarray, size: int) -> Again:
    """Runs of `size` words that begin with one of `words` and are more than once in their document."""
    begin = words[words + size <= batch.word_limit[words]]
    keys = _keyed(batch.runs(begin, begin + size), batch.word_document[begin]) * STEP
    bits = max(int(4 * len(keys)).bit_length(), 8)
    bins = (keys >> np.uint64(64 - bits)).astype(np.int64)
    maybe = np.flatnonzero(np.bincount(bins, minlength=1 << bits)[bins] > 1)  # the others need no sorting
    order = maybe[np.argsort(keys[maybe])]
    new = np.concatenate([[True], keys[order[1:]] != keys[order[:-1]]]) if len(order) else np.zeros(0, dtype=bool)
    number = np.cumsum(new) - 1
    several = np.bincount(number)[number] > 1 if len(order) else new
    return Again(begin[order[several]], np.flatnonzero(new[several]))


def top_share(batch: Batch, runs: Again, size: int) -> np.ndarray:
    """Share of the words' characters that the commonest run of `size` words covers [D]."""
    top = np.zeros(len(batch), dtype=np.int64)
    if len(runs.begin):
        counts = np.diff(np.concatenate([runs.first, [len(runs.begin)]]))
        place = runs.begin[runs.first]
        np.maximum.at(top, batch.word_document[place], counts * (batch.letters[place + size] - batch.letters[place]))
    return batch.share(top, batch.num_letters)


def covered_share(batch: Batch, runs: Again, size: int) -> np.ndarray:
    """Share of the words' characters inside runs of `size` words that were there before [D]."""
    if not len(runs.begin):
        return np.zeros(len(batch))
    earliest = np.minimum.reduceat(runs.begin, runs.first)
    again = np.setdiff1d(runs.begin, earliest, assume_unique=True)
    edges = np.bincount(again, minlength=len(batch.word_start) + 1)
    edges -= np.bincount(again + size, minlength=len(batch.word_start) + 1)
    inside = np.cumsum(edges[:-1]) > 0
    covered = np.bincount(batch.word_document, weights=np.diff(batch.letters) * inside, minlength=len(batch))
    return batch.share(covered, batch.num_letters)
