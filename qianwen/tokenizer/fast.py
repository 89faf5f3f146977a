"""gigatoken, several times as fast as tiktoken, for corpora (`pip install 'qianwen[fast]'`).

It is used only if it gives the same ids as tiktoken: for Qwen's pattern, and after a check on text made of the
vocabulary's tokens. It would parse control tokens in text, so it is built without them: text never becomes one.

The two libraries use different versions of Unicode: a letter of the newer version is a symbol in the older one, and the
text around it is split differently. Such characters are found by comparing both, and texts with one go to tiktoken.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import tiktoken

from qianwen.tokenizer.patterns import QWEN_PATTERN, grouped
from qianwen.tokenizer.vocab import Vocabulary
from qianwen.tokenizer.vocab_files import write_tiktoken

Encode = Callable[[Sequence[str]], list[np.ndarray]]
_log = logging.getLogger(__name__)

# Where splitters disagree first: digits, contractions, blanks, marks, scripts, control tokens spelled out.
CHECK_TEXT = (
    "It's 3.14159 o'clock, THEY'RE 20% LATE; naïve café Ⅷ ½ ٣٤ x²\r\n\r\n\t\tdef f(x):\n        return x  # ok   \n"
    "通义千问，你好！12３４ 日本語のテキスト 한국어 문장 ภาษาไทย हिन्दी עברית العربية Ελληνικά русский ǅ ſ'ſ 'S don’t"
    "\u00a0\u3000\u2028\n😀👩\u200d👧 e\u0301 \u0301 \x00\x1c\x85 ((([[[---===>>> https://example.org/a?b=c&d"
    "<|endoftext|><|im_start|>user\n<|im_end|> "
)

# By 128 characters: planes 0 to 3 but ASCII and surrogates. Beyond them stand tags and private use alone.
BLOCKS = [*range(0x80, 0xD800, 128), *range(0xE000, 0x40000, 128)]


def fast_encoder(vocabulary: Vocabulary, reference: Callable[[str], list[int]]) -> Encode | None:
    """Texts → int32 ids of each, equal to `reference`'s; None, and the reason in the log, without gigatoken.

    A batch is encoded on all cores at once; the ids of its texts are parts of one array.
    """
    try:
        import awkward  # noqa: F401  (the arrays that gigatoken returns)
        import gigatoken  # noqa: F401
    except ImportError:
        _log.info("gigatoken is not installed: tiktoken encodes")
        return None
    if vocabulary.pattern != QWEN_PATTERN:
        _log.info("gigatoken does not know this vocabulary's pattern: tiktoken encodes")
        return None
    ordered = sorted(vocabulary.ranks, key=vocabulary.ranks.__getitem__)
    ids = np.fromiter(map(vocabulary.ranks.__getitem__, ordered), np.int32)
    try:
        backend = _backend(ordered)
    except (ValueError, RuntimeError) as error:
        _log.warning("gigatoken refuses this vocabulary (%s): tiktoken encodes", error)
        return None
    disputed = _Tokens(disputed_characters(), ordered)

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        ranks, ends = backend(texts)
        every = ids[ranks]
        found = [every[start:end] for start, end in pairwise([0, *ends.tolist()])]
        for number in np.unique(np.searchsorted(ends, disputed.places(ranks), side="right")):
            found[number] = np.array(reference(texts[number]), np.int32)
        return found

    texts = list(_check_texts(ordered))
    for text, found in zip(texts, encode(texts), strict=True):
        if found.tolist() != reference(text):
            _log.warning("gigatoken differs from tiktoken on %r: tiktoken encodes", text[:80])
            return None
    return encode


def _backend(tokens: Sequence[bytes]) -> Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]:
    """Texts → ranks in `tokens` of all of them, [num_tokens], and where each text's end, [num_texts]."""
    import awkward
    from gigatoken import Tokenizer

    with tempfile.TemporaryDirectory() as folder:  # it wants a file, and ids without gaps
        path = Path(folder) / "dense.tiktoken"
        write_tiktoken({token: rank for rank, token in enumerate(tokens)}, path)
        tokenizer = Tokenizer.from_tiktoken(path, "qwen2", {})

    def encode(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        found = tokenizer.encode_batch(list(texts))
        return awkward.flatten(found).to_numpy().astype(np.intp), np.cumsum(awkward.num(found).to_numpy())

    return encode


@cache
def disputed_characters() -> frozenset[str]:
    """Characters that gigatoken and tiktoken take for different things: letter, number, or neither."""
    # Between an a and an exclamation mark, a letter keeps to the one, a number to neither, all else to the other.
    # Of these tokens the first byte of a character joins the a where they share a piece, and its last byte the mark.
    high = [bytes([byte]) for byte in range(0x80, 0x100)]
    tokens = [bytes([byte]) for byte in range(0x100)] + [b"a" + byte for byte in high] + [byte + b"!" for byte in high]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    slow = tiktoken.Encoding("probe", pat_str=grouped(QWEN_PATTERN), mergeable_ranks=ranks, special_tokens={})
    fast = _backend(tokens)

    def disputed(probes: list[str]) -> list[str]:
        ranks, ends = fast(probes)
        parts = np.split(ranks, ends[:-1])
        return [
            probe for probe, part in zip(probes, parts, strict=True) if part.tolist() != slow.encode_ordinary(probe)
        ]

    blocks = ["".join(f"a{chr(code)}!" for code in range(start, start + 128)) for start in BLOCKS]
    characters = [character for block in disputed(blocks) for character in block[1::3]]
    return frozenset(probe[1] for probe in disputed([f"a{character}!" for character in characters]))


class _Tokens:
    """Finds characters in encoded text, which takes a fraction of the time of looking through the text itself."""

    def __init__(self, characters: frozenset[str], tokens: Sequence[bytes]) -> None:
        self.tokens, self.spelled = tokens, frozenset(character.encode() for character in characters)
        self.begun = frozenset(whole[:end] for whole in self.spelled for end in range(1, len(whole)))
        whole = (not characters.isdisjoint(token.decode(errors="ignore")) for token in tokens)
        begins = (any(token[-size:] in self.begun for size in (1, 2, 3)) for token in tokens)
        self.kind = np.array([2 * one + other for one, other in zip(whole, begins, strict=True)], np.uint8)

    def places(self, ranks: np.ndarray) -> np.ndarray:
        """Where in `ranks`, [num_tokens], one of the characters stands, or what may be the half of one."""
        suspects = np.flatnonzero(self.kind[ranks])
        holds = self.kind[ranks[suspects]] > 1
        begun = suspects[~holds & (suspects + 1 < len(ranks))]
        pairs, which = np.unique(ranks[begun] * len(self.tokens) + ranks[begun + 1], return_inverse=True)
        goes_on = np.array([self._goes_on(*divmod(pair, len(self.tokens))) for pair in pairs.tolist()], bool)
        return np.concatenate([suspects[holds], begun[goes_on[which]]])

    def _goes_on(self, first: int, second: int) -> bool:
        """Whether the second token goes on with a character that the first one begins."""
        head, tail = self.tokens[first], self.tokens[second]
        halves = [head[-size:] + tail for size in (1, 2, 3) if head[-size:] in self.begun]
        return any(not self.spelled.isdisjoint((half[:3], half[:4])) or half in self.begun for half in halves)


def _check_texts(tokens: list[bytes]) -> Iterator[str]:
    yield CHECK_TEXT
    step = len(tokens) // 4000 + 1
    yield b"".join(tokens[::step]).decode(errors="replace")
    yield b" ".join(tokens[step // 2 :: step]).decode(errors="replace")
