"""Simple byte-pair merging, and the printable alphabet in which Hugging Face writes bytes.

A vocabulary in tiktoken's format lists tokens, not merges. The merges follow from it: merge the bytes of a token, using
only lower ranks; the two pieces that remain are its merge. All functions take quadratic time in the length of a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr


def _alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_TEXT_OF = _alphabet()
_BYTE_OF = {text: byte for byte, text in _TEXT_OF.items()}


def bytes_to_text(token: bytes) -> str:
    """A token in GPT-2's alphabet, as `tokenizer.json` writes it: a blank is Ġ."""
    return "".join(map(_TEXT_OF.__getitem__, token))


def text_to_bytes(text: str) -> bytes:
    """The bytes that a token in GPT-2's alphabet stands for. KeyError for a character outside it."""
    return bytes(map(_BYTE_OF.__getitem__, text))


def byte_pair_merge(word: bytes, ranks: Mapping[bytes, int], limit: float = float("inf")) -> list[bytes]:
    """Merge the adjacent pair of lowest rank (the leftmost of equals) repeatedly, while that rank is below `limit`."""
    pieces = [word[i : i + 1] for i in range(len(word))]
    while len(pieces) > 1:
        rank, at = min((ranks.get(pieces[i] + pieces[i + 1], limit), i) for i in range(len(pieces) - 1))
        if rank >= limit:
            break
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


def merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The pairs that make the tokens of several bytes, by rank. CheckpointError for a token that no pair makes."""
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            yield _halves(token, rank, ranks)


def _halves(token: bytes, rank: int, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The last merge of `token`. For most tokens only one split into two earlier tokens exists: then it is that one."""
    cuts = [
        (token[:at], token[at:])
        for at in range(1, len(token))
        if ranks.get(token[:at], rank) < rank and ranks.get(token[at:], rank) < rank
    ]
    if len(cuts) == 1:
        return cuts[0]
    pieces = byte_pair_merge(token, ranks, rank)
    if len(pieces) != 2:
        raise CheckpointError(tr("no two earlier tokens merge into token {rank}, {token!r}", rank=rank, token=token))
    return pieces[0], pieces[1]
