"""Near duplicates among short texts, such as questions: those that share most of their pieces.

    overlap(a, b) = |A ∩ B| / |A ∪ B|      A, B: the sets of pieces of two texts (Jaccard)

Pieces are words (`words_of`), or runs of characters (`runs_of`), which find small changes inside words too. An index
from pieces to texts finds the few earlier texts that can be alike, so thousands of texts take seconds. Long documents
are compared by their shingles (`data/curate/minhash.py`), which short texts do not have.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set

WORDS_LIMIT, RUNS_LIMIT = 0.7, 0.6  # overlap from which two texts are near duplicates
TOKEN = re.compile(r"[\u3400-\u9fff]+|[^\W_]+")
CHINESE = re.compile(r"[\u3400-\u9fff]")


def words_of(text: str) -> set[str]:
    """The words of a text in lower case; of Chinese text, the pairs of neighbouring characters."""
    words: set[str] = set()
    for token in TOKEN.findall(text.lower()):
        if "\u3400" <= token[0] <= "\u9fff":
            words |= {token[place : place + 2] for place in range(max(len(token) - 1, 1))}
        else:
            words.add(token)
    return words


def runs_of(text: str) -> set[str]:
    """The runs of four letters, or of two characters in Chinese, without spaces and punctuation."""
    plain = re.sub(r"[\W_]+", "", text.lower())
    size = 2 if CHINESE.search(plain) else 4
    return {plain[start : start + size] for start in range(max(len(plain) - size + 1, 1))}


class NearDuplicates:
    """Remembers texts, and finds those that a new one is like."""

    def __init__(self, limit: float = WORDS_LIMIT, pieces: Callable[[str], Set[str]] = words_of) -> None:
        self.limit, self._pieces = limit, pieces
        self._sizes: list[int] = []
        self._texts_with: dict[str, list[int]] = {}  # piece → numbers of texts

    def add(self, text: str) -> bool:
        """Whether `text` is like an earlier text; if it is not, it is remembered."""
        is_near = self.overlap(text) >= self.limit
        if not is_near:
            self.remember(text)
        return is_near

    def remember(self, text: str) -> None:
        """Compare later texts with this one."""
        pieces = self._pieces(text)
        for piece in pieces:
            self._texts_with.setdefault(piece, []).append(len(self._sizes))
        self._sizes.append(len(pieces))

    def overlap(self, text: str) -> float:
        """The largest overlap with an earlier text; 0 if no text shares a piece."""
        pieces = self._pieces(text)
        shared = Counter(number for piece in pieces for number in self._texts_with.get(piece, ()))
        return max((n / (len(pieces) + self._sizes[number] - n) for number, n in shared.items()), default=0.0)


def largest_overlaps(texts: Sequence[str], others: Iterable[str]) -> list[float]:
    """For each text its largest overlap with one of `others`, by runs of characters."""
    seen = NearDuplicates(RUNS_LIMIT, runs_of)
    for other in others:
        seen.remember(other)
    return [seen.overlap(text) for text in texts]
