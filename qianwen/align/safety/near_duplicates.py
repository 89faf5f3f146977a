"""Near duplicates among short texts, by the runs of characters that they share.

    overlap(a, b) = |A ∩ B| / |A ∪ B|      A, B: runs of four characters of the text, or of two in Chinese

Case, spaces and punctuation do not count. Two texts above `LIMIT` ask the same in slightly different words. Documents
of a corpus are compared by `data/curate/minhash.py`; this is exact, and made for a few thousand prompts.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

LIMIT = 0.6  # overlap from which two prompts count as near duplicates
CHINESE = re.compile(r"[\u3400-\u9fff]")


def runs(text: str) -> frozenset[str]:
    """The runs of characters of a text; a shorter text is one run."""
    plain = re.sub(r"[\W_]+", "", text.lower())
    size = 2 if CHINESE.search(plain) else 4
    return frozenset(plain[start : start + size] for start in range(max(len(plain) - size + 1, 1)))


def largest_overlaps(texts: Sequence[str], others: Iterable[str]) -> list[float]:
    """For each text its largest overlap with one of `others`; 0 if it shares no run with any."""
    sizes: list[int] = []
    places: dict[str, list[int]] = defaultdict(list)  # run → indices of `others`
    for index, other in enumerate(others):
        found = runs(other)
        sizes.append(len(found))
        for run in found:
            places[run].append(index)
    largest = []
    for text in texts:
        own = runs(text)
        shared = Counter(index for run in own for index in places.get(run, ()))
        largest.append(max((n / (len(own) + sizes[index] - n) for index, n in shared.items()), default=0.0))
    return largest
