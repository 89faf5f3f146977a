"""How many tokens an engine reads at once: what the model allows, as far as keys and values of them fit in memory.

A file may claim a context of a million tokens that the machine cannot hold. Without a request for a length, the engine
takes the longest one that fits. A length that was asked for is never shortened: if it does not fit, the error says what
does.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

MOST_TOKENS = 1 << 40  # above any memory; a damaged file may claim more


@dataclass(frozen=True)
class ContextSize:
    """The longest text of an engine, and the number of tokens that its cache holds."""

    max_model_len: int
    cached_tokens: int
    note: str = ""  # one line for the user if the model allows more


def context_size(
    requested: int, limit: int, num_seqs: int, *, cache_bytes: Callable[[int], int], free: float
) -> ContextSize:
    """The size for texts of `requested` tokens (0: as many as fit, up to the model's `limit`).

    `cache_bytes` gives the size of a cache for a number of tokens, and `free` is what it may take. The cache has room
    for `num_seqs` texts of 2,048 tokens if that fits. Raises ConfigError for a length that does not fit.
    """
    wanted = requested or min(limit, MOST_TOKENS)
    most = max(wanted, min(wanted, 2048) * num_seqs)
    if wanted < 1 or wanted > MOST_TOKENS:
        raise ConfigError(tr("a context of {tokens} tokens is not possible; give at least 1", tokens=wanted))
    fitting = bisect_right(range(most + 1), free, key=cache_bytes) - 1
    if fitting < 1 or fitting < requested:
        message = (
            "keys and values of {tokens:,} tokens need {need:.1f} GB, but {free:.1f} GB can be used; "
            "{fitting:,} tokens fit: use --context {fitting} or less, or free memory"
        )
        needed = cache_bytes(wanted if requested else 1) / 1e9
        raise ConfigError(tr(message, tokens=wanted, need=needed, free=free / 1e9, fitting=max(fitting, 0)))
    length = min(wanted, fitting)
    note = ""
    if length < wanted:
        message = "context: {length:,} tokens, which is what fits in {free:.1f} GB; the model allows {limit:,}"
        note = tr(message, length=length, free=free / 1e9, limit=limit)
    return ContextSize(length, min(max(length, min(length, 2048) * num_seqs), fitting), note)
