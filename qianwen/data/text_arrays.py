"""A batch of texts as arrays: characters, words, lines and their hashes, so that all statistics are array operations.

    texts → code points, one after the other, a newline after each text     codes [C], first_char [D + 1]
    words: runs of letters, marks and digits; a character of a script written
    without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) is a word     word_start, word_end, word_hash [W]
    lines: the text between newlines, without surrounding white space           line_start, line_end, line_hash [L]

The hash of a word ignores case, character width and the script of digits; the hash of a line does not. With a base B
that has an inverse modulo 2^64 and a random number r(c) for each character, a prefix sum gives all word hashes:

    S_i = Σ_{j<i} r(c_j) B^j        hash(start, end) = (S_end − S_start) B^(−start)   modulo 2^64

C characters, D documents, W words, L lines of the batch.
"""

import functools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

SEPARATOR, LETTER, ALONE = 0, 1, 2  # kinds of character: between words, part of a word, a word of its own
BATCH = 1 << 16  # characters counted at a time: the arrays stay in the cache
TABLE = 0x32400  # all assigned characters except tags and private use; later ones use the last entry, a separator
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),
    (0x3041, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),
    (0x20000, 0x323AF),
)
BASE = 0x9E3779B97F4A7C15 | 1
NARROW = np.uint64(0xBF58476D1CE4E5B9)
WIDE = np.uint64(0x94D049BB133111EB)
STEP = np.uint64(0xD6E8FEB86659FD93)


def mixed(hashes: np.ndarray) -> np.ndarray:
    """Mix the bits of uint64 hashes: every result bit depends on every input bit (the finalizer of SplitMix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * NARROW
    hashes = (hashes ^ (hashes >> np.uint64(27))) * WIDE
    return hashes ^ (hashes >> np.uint64(31))


class Texts:
    """The arrays of a list of texts. Each array is computed on first use and cached."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        joined = "\n".join(texts) + "\n" if texts else ""
        self.codes = np.frombuffer(joined.encode("utf-32-le", "replace"), dtype=np.uint32)
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        self.first_char = np.concatenate([[0], np.cumsum(lengths + 1)])
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.texts)

    @functools.cached_property
    def places(self) -> np.ndarray:
        """The table index of each character, in the integer type that NumPy indexes fastest with."""
        return np.minimum(self.codes, TABLE - 1).astype(np.intp)

    @functools.cached_property
    def kinds(self) -> np.ndarray:
        """SEPARATOR, LETTER or ALONE of each character [C]."""
        return tables()[0].take(self.places)

    @functools.cached_property
    def _goes_on(self) -> np.ndarray:
        """Whether a character continues the word of the one before it."""
        is_letter = self.kinds == LETTER
        goes_on = np.zeros(len(is_letter), dtype=bool)
        np.logical_and(is_letter[1:], is_letter[:-1], out=goes_on[1:])
        return goes_on

    @functools.cached_property
    def word_start(self) -> np.ndarray:
        return np.flatnonzero((self.kinds != SEPARATOR) & ~self._goes_on)

    @functools.cached_property
    def word_end(self) -> np.ndarray:
        return np.flatnonzero((self.kinds[:-1] != SEPARATOR) & ~self._goes_on[1:]) + 1

    @functools.cached_property
    def first_word(self) -> np.ndarray:
        """Document d has the words first_word[d] … first_word[d + 1] − 1 [D + 1]."""
        return np.searchsorted(self.word_start, self.first_char)

    @functools.cached_property
    def num_words(self) -> np.ndarray:
        return np.diff(self.first_word)

    @functools.cached_property
    def word_document(self) -> np.ndarray:
        return np.repeat(np.arange(len(self)), self.num_words)

    @functools.cached_property
    def word_limit(self) -> np.ndarray:
        """The word after the last one of each word's document [W]."""
        return np.repeat(self.first_word[1:], self.num_words)

    @functools.cached_property
    def word_hash(self) -> np.ndarray:
        return _hashes(tables()[1].take(self.places), self.word_start, self.word_end)

    @functools.cached_property
    def spaces(self) -> np.ndarray:
        """Whether a character is white space [C]."""
        return tables()[2].take(self.places)

    @functools.cached_property
    def _line_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Start and end of each line that is not blank, without surrounding white space."""
        ends = np.flatnonzero(self.codes == 10)
        starts = np.concatenate([[0], ends[:-1] + 1])
        inked = np.flatnonzero(~self.spaces)
        first, last = np.searchsorted(inked, starts), np.searchsorted(inked, ends)
        full = last > first
        return inked[first[full]], inked[last[full] - 1] + 1

    @property
    def line_start(self) -> np.ndarray:
        return self._line_bounds[0]

    @property
    def line_end(self) -> np.ndarray:
        return self._line_bounds[1]

    @functools.cached_property
    def line_document(self) -> np.ndarray:
        return np.searchsorted(self.first_char, self.line_start, side="right") - 1

    @functools.cached_property
    def num_lines(self) -> np.ndarray:
        return np.bincount(self.line_document, minlength=len(self))

    @functools.cached_property
    def line_hash(self) -> np.ndarray:
        return _hashes(tables()[3].take(self.places), self.line_start, self.line_end)

    def per_document(self, mask: np.ndarray) -> np.ndarray:
        """How many characters of each document are true in `mask`, which has a bool for every character [D]."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        return np.add.reduceat(mask.view(np.uint8), self.first_char[:-1], dtype=np.int64)

    def per_span(self, mask: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The same for any spans of characters."""
        sums = np.zeros(len(mask) + 1, dtype=np.int32)
        np.cumsum(mask.view(np.uint8), dtype=np.int32, out=sums[1:])
        return sums[ends] - sums[starts]

    def ngrams(self, size: int, *, keep_short: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all runs of `size` words inside one document, and the index of their first words.

        With `keep_short`, a document with fewer words is a single run.
        """
        last = self.word_limit
        place = np.arange(len(last))
        is_complete = place + size <= last
        if keep_short:
            is_complete |= place == np.repeat(self.first_word[:-1], self.num_words)
        begin = place[is_complete]
        return mixed(self.runs(begin, np.minimum(begin + size, last[is_complete]))), begin

    def word_keys(self) -> np.ndarray:
        """One hash for the sequence of words of each document [D]; texts with the same words have the same hash."""
        return mixed(self.runs(self.first_word[:-1], self.first_word[1:]))

    @functools.cached_property
    def _word_sums(self) -> np.ndarray:
        return _sums(self.word_hash)

    def runs(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The hash of each span of words."""
        return (self._word_sums[ends] - self._word_sums[starts]) * _powers(len(self._word_sums))[1][starts]


def _sums(numbers: np.ndarray) -> np.ndarray:
    """S_0 … S_n of the module's docstring."""
    sums = np.empty(len(numbers) + 1, dtype=np.uint64)
    sums[0] = 0
    np.cumsum(numbers * _powers(len(numbers))[0], out=sums[1:])
    return sums


def by_size(texts: Iterable[str], size: int = BATCH) -> Iterator[list[str]]:
    """Batches of texts with about `size` characters each."""
    batch: list[str] = []
    room = size
    for text in texts:
        batch.append(text)
        room -= len(text)
        if room <= 0:
            yield batch
            batch, room = [], size
    if batch:
        yield batch


def rolling(texts: Texts, size: int) -> np.ndarray:
    """The hash of every run of `size` characters [C − size + 1], ignoring case; all separators are equal."""
    sums = _sums(np.where(texts.kinds == SEPARATOR, STEP, tables()[1].take(texts.places)))
    if len(sums) <= size:
        return np.zeros(0, dtype=np.uint64)
    return (sums[size:] - sums[:-size]) * _powers(len(sums))[1][:-size]


def _hashes(numbers: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The hash of each span of characters; `numbers` is r(c) of each character."""
    sums = _sums(numbers)
    return (sums[ends] - sums[starts]) * _powers(len(sums))[1][starts]


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """B^i and B^(−i) for i < count, modulo 2^64."""
    powers, inverses = _all_powers(max(count - 1, 1 << 16).bit_length())
    return powers[:count], inverses[:count]


@functools.lru_cache(maxsize=2)
def _all_powers(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """2^bits powers of the base and of its inverse."""
    inverse = pow(BASE, -1, 2**64)
    both = []
    for base in (BASE, inverse):
        factors = np.full(1 << bits, base, dtype=np.uint64)
        factors[0] = 1
        both.append(np.cumprod(factors))
    return both[0], both[1]


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tables over characters: kind, r of the folded form, whether it is white space, r of the character."""
    kinds = np.zeros(TABLE, dtype=np.uint8)
    folded = np.arange(TABLE, dtype=np.uint64)
    for low, high in UNSPACED:
        kinds[low : high + 1] = ALONE
    kinds[0xAC00:0xD7A4] = LETTER  # Hangul syllables are words' letters
    settled = kinds != SEPARATOR
    settled[0x0E00:0x1100] = settled[0x1780:0x1800] = settled[0x2E80:0x3100] = settled[0xFF00:0xFFF0] = False
    for code in np.flatnonzero(~settled).tolist():
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] not in "LMN":
            kinds[code] = SEPARATOR
            continue
        kinds[code] = kinds[code] or LETTER
        plain = unicodedata.normalize("NFKC", character).casefold()
        digit = unicodedata.decimal(character, None)
        folded[code] = 48 + digit if digit is not None else ord(plain) if len(plain) == 1 else code
    is_space = np.zeros(TABLE, dtype=bool)
    is_space[[code for code in range(0x3001) if chr(code).isspace()]] = True
    own = mixed((np.arange(TABLE, dtype=np.uint64) + np.uint64(1)) * STEP)
    return kinds, own.take(np.minimum(folded, TABLE - 1).astype(np.int64)), is_space, own
