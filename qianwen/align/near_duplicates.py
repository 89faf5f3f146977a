"""Near duplicates among short texts, such as questions: those that share most of their words.

The likeness of two texts is the number of words they share ÷ the number of words either has (Jaccard). Words are in
lower case; of Chinese text, they are pairs of neighbouring characters. An index from words to texts finds the few
earlier texts that can be alike, so thousands of texts take seconds. Long documents are compared by their shingles
(`data/curate/minhash.py`), which short texts do not have.
"""

import re
from collections import Counter

THRESHOLD = 0.7
TOKEN = re.compile(r"[\u3400-\u9fff]+|[^\W_]+")


class NearDuplicates:
    """Remembers texts; `add` says whether a new one is a near duplicate of an earlier one."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self._sizes: list[int] = []
        self._texts_of: dict[str, list[int]] = {}

    def add(self, text: str) -> bool:
        """Whether `text` is like an earlier text; if it is not, it is remembered."""
        words = words_of(text)
        shared = Counter(number for word in words for number in self._texts_of.get(word, ()))
        for number, count in shared.items():
            if count >= self.threshold * (len(words) + self._sizes[number] - count):
                return True
        for word in words:
            self._texts_of.setdefault(word, []).append(len(self._sizes))
        self._sizes.append(len(words))
        return False


def words_of(text: str) -> set[str]:
    """The words of a text, and the pairs of neighbouring Chinese characters."""
    words: set[str] = set()
    for token in TOKEN.findall(text.lower()):
        if "\u3400" <= token[0] <= "\u9fff":
            words |= {token[place : place + 2] for place in range(max(len(token) - 1, 1))}
        else:
            words.add(token)
    return words
