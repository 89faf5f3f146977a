"""Encoding of texts with extremely long pieces: a million spaces, ten megabytes of one letter.

The pattern splits a text into pieces, and each is merged separately. Pieces are usually words, but their length has no
limit, and tiktoken fails on long ones: its regex engine aborts on 999,999 spaces, and merging needs fifty times the
memory of the piece. So a long text is probed first; if it may have a long piece, the text is split by another engine
with the same pattern, and long pieces are merged in parts.

Merging in parts is exact. A sequence of tokens is what BPE makes of its bytes if, and only if, it makes of every two
neighbours those same two tokens. Inside a part this is true; at the boundary of two parts it is tested, and the
boundary is moved until it is true. (The last tokens of a part may still merge with what follows, so they are dropped
and merged again with the next part.)
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Iterator, Sequence

import regex

PROBE_EVERY = 1 << 16  # characters; pieces up to twice as long are not detected, and tiktoken can handle them
PROBE = 64
PART = 1 << 16  # bytes merged at once
DROPPED = 16  # tokens at the end of a part

Merge = Callable[[bytes], list[int]]
_compiled = functools.cache(regex.compile)


def may_have_long_piece(text: str, pattern: str) -> bool:
    """Whether some place in the text looks like the inside of a piece longer than `2 * PROBE_EVERY`."""
    for start in range(PROBE_EVERY, len(text), PROBE_EVERY):
        pieces = _compiled(pattern).findall(text[start : start + PROBE])
        if len(pieces) <= 3:  # a run of blanks is cut behind its last line end and before its last blank
            return True
    return False


def encode_pieces(text: str, pattern: str, merge: Merge, token_bytes: Callable[[int], bytes]) -> Iterator[int]:
    """Ids of a text, piece by piece. `merge` is BPE of one piece, in memory proportional to its length."""
    for match in _compiled(pattern).finditer(text):
        piece = match[0].encode()
        yield from merge(piece) if len(piece) <= PART else merge_in_parts(piece, merge, token_bytes)


def merge_in_parts(piece: bytes, merge: Merge, token_bytes: Callable[[int], bytes]) -> array[int]:
    """`merge(piece)`, `PART` bytes at a time."""
    ids = array("i")
    start, furthest, size = 0, 0, PART
    while start < len(piece):
        part = merge(piece[start : start + size])
        if ids and not _are_neighbours(ids[-1], part[0], merge, token_bytes):
            redone = ids[-(size // PART) * DROPPED :]
            del ids[-len(redone) :]
            start -= _size(redone, token_bytes)
            size *= 2
            continue
        tokens = part if start + size >= len(piece) else part[: max(len(part) - DROPPED, 1)]
        ids.extend(tokens)
        start += _size(tokens, token_bytes)
        size = (
            PART if start > furthest else 2 * size
        )  # without progress, a larger part: the same size would give the same boundary
        furthest = max(start, furthest)
    return ids


def _size(ids: Sequence[int], token_bytes: Callable[[int], bytes]) -> int:
    return sum(len(token_bytes(token)) for token in ids)


def _are_neighbours(left: int, right: int, merge: Merge, token_bytes: Callable[[int], bytes]) -> bool:
    return merge(token_bytes(left) + token_bytes(right)) == [left, right]
