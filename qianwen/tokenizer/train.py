"""Train a vocabulary with BPE: merge the most frequent pair of adjacent tokens, repeatedly (Qwen report, section 2.2).

    from scratch    on the pieces that Qwen's pattern splits a text into: 256 bytes, then merges, then 208 control
                    tokens. In C++ (`learner.py`), or with rustbpe where the C++ cannot be compiled
    continued       from a base vocabulary, whose tokens keep their ids and merge first. So every word is first encoded
                    by the base vocabulary, and further merges join the resulting tokens; their ids follow all others

Of equally frequent pairs, both methods merge the pair with the lower ids first. `learn_merges` is the plain algorithm,
also used for words with given counts (`extend.py`).
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import regex

from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.learner import Learner, available
from qianwen.tokenizer.long_pieces import PROBE_EVERY, may_have_long_piece
from qianwen.tokenizer.normal import normal_text
from qianwen.tokenizer.patterns import QWEN_PATTERN, grouped
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import NUM_SPECIALS, Vocabulary, qwen_special_tokens

MAX_PIECE_LEN = 1024  # characters; longer pieces are not words and are truncated
BUFFER = 1024  # texts passed to the threads of rustbpe at a time

Pair = tuple[bytes, bytes]


def train_vocabulary(texts: Iterable[str], vocab_size: int, base: Vocabulary | None = None) -> Vocabulary:
    """A vocabulary of `vocab_size` ids, with control tokens; fewer if the texts have no more pairs to merge."""
    smallest = base.size if base else 256 + NUM_SPECIALS
    if vocab_size < smallest:
        message = "vocab_size = {size} is too small: bytes and control tokens alone need {smallest} ids"
        raise ConfigError(tr(message, size=vocab_size, smallest=smallest))
    return _continued(texts, vocab_size, base) if base else _from_scratch(texts, vocab_size)


def _from_scratch(texts: Iterable[str], vocab_size: int) -> Vocabulary:
    learnable = (_learnable(text, QWEN_PATTERN) for text in texts)
    learned = learn_tokens if available() else learn_tokens_with_rustbpe
    ranks: dict[bytes, int] = {}
    for token in learned(learnable, vocab_size - NUM_SPECIALS):
        ranks.setdefault(token, len(ranks))  # two pairs may join to the same token
    if len(ranks) == 256 < vocab_size - NUM_SPECIALS:
        raise DataError(tr("the input contains no text to train a vocabulary on"))
    return Vocabulary(ranks, qwen_special_tokens(len(ranks)))


def learn_tokens(texts: Iterable[str], number: int) -> list[bytes]:
    """The 256 bytes, then the tokens that merges create: `number` tokens in all, or fewer."""
    learner = Learner()
    for text in texts:
        learner.count(text)
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in learner.merges(number - len(tokens)):
        tokens.append(tokens[left] + tokens[right])
    return tokens


def learn_tokens_with_rustbpe(texts: Iterable[str], number: int) -> list[bytes]:
    """The same as `learn_tokens`, but slower."""
    from rustbpe import Tokenizer as Rust  # pyrefly: ignore[missing-module-attribute]

    learner = Rust()
    learner.train_from_iterator(iter(texts), number, buffer_size=BUFFER, pattern=grouped(QWEN_PATTERN))
    return [bytes(token) for token, _ in sorted(learner.get_mergeable_ranks(), key=lambda item: item[1])]


def _continued(texts: Iterable[str], vocab_size: int, base: Vocabulary) -> Vocabulary:
    pieces = regex.compile(base.pattern)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(pieces.findall(_learnable(text, base.pattern, base.nfc)))
    tokenizer = Tokenizer(base, fast=False)
    words = [list(map(tokenizer.token_bytes, tokenizer.encode(word))) for word in counts]
    ranks = dict(base.ranks)

    def most_frequent(count: int, pair: Pair) -> tuple[int, int, int]:
        return -count, ranks[pair[0]], ranks[pair[1]]

    free = iter(range(base.size, vocab_size))
    for left, right in learn_merges(words, list(counts.values()), most_frequent):
        if left + right not in ranks:
            if (rank := next(free, None)) is None:
                break
            ranks[left + right] = rank
    return base.with_tokens(ranks)


def learn_merges(
    words: Sequence[list[bytes]], counts: Sequence[int], priority: Callable[[int, Pair], Any]
) -> Iterator[Pair]:
    """Yield the pair with the smallest `priority(count, pair)` and merge it in all words, until each is one token.

    `priority` is only called for a pair whose two tokens exist: given at the start, or created by a yielded merge.
    """
    pairs = _Pairs(words, counts)
    heap = [(priority(total, pair), total, pair) for pair, total in pairs.totals.items()]
    heapq.heapify(heap)
    while heap:
        _, total, best = heapq.heappop(heap)
        if (
            total == pairs.totals[best] > 0
        ):  # an entry with an older count is skipped: the heap is never updated in place
            yield best
            for pair in pairs.merge(best):
                heapq.heappush(heap, (priority(pairs.totals[pair], pair), pairs.totals[pair], pair))


class _Pairs:
    """Words as lists of tokens, and the number of times each pair of adjacent tokens occurs."""

    def __init__(self, words: Sequence[list[bytes]], counts: Sequence[int]) -> None:
        self.words, self.counts = list(words), counts
        self.totals: Counter[Pair] = Counter()
        self.where: defaultdict[Pair, set[int]] = defaultdict(
            set
        )  # indices of words that contain the pair, or did earlier
        for index in range(len(words)):
            self._count(index, self.totals, 1)

    def merge(self, pair: Pair) -> list[Pair]:
        """Merge every occurrence of the pair, and return the pairs whose counts changed."""
        changes: Counter[Pair] = Counter()
        for index in self.where.pop(pair):
            self._count(index, changes, -1)
            self.words[index] = _merged(self.words[index], pair)
            self._count(index, changes, 1)
        self.totals.update(changes)
        return [changed for changed, change in changes.items() if change]

    def _count(self, index: int, into: Counter[Pair], sign: int) -> None:
        for pair in pairwise(self.words[index]):
            into[pair] += sign * self.counts[index]
            self.where[pair].add(index)


def _merged(pieces: list[bytes], pair: Pair) -> list[bytes]:
    """`pieces` with every occurrence of `pair` merged, from left to right."""
    merged: list[bytes] = []
    left, right = pair
    skip = False
    for piece, following in zip(pieces, [*pieces[1:], b""], strict=True):
        if skip:
            skip = False
        elif piece == left and following == right:
            merged.append(left + right)
            skip = True
        else:
            merged.append(piece)
    return merged


def _learnable(text: str, pattern: str, nfc: bool = True) -> str:
    """The normalised text. Extremely long pieces are truncated, because merging them would take too long."""
    text = normal_text(text, nfc)
    if len(text) > PROBE_EVERY and may_have_long_piece(text, pattern):
        return regex.sub(pattern, lambda match: match[0][:MAX_PIECE_LEN], text)
    return text
