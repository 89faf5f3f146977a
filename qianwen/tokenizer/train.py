"""Learn a vocabulary: byte-pair merges of the most frequent neighbours, with Qwen's pattern (Sennrich et al. 2016)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import rustbpe

from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary, qwen_special_tokens

NUM_SPECIALS = 208


def train_vocabulary(texts: Iterable[str], vocab_size: int) -> Vocabulary:
    """A vocabulary of `vocab_size` tokens, control tokens included."""
    learner = rustbpe.Tokenizer()
    normal = (unicodedata.normalize("NFC", text) for text in texts)
    learner.train_from_iterator(normal, vocab_size - NUM_SPECIALS, pattern=QWEN_PATTERN)
    ranks = {bytes(token): rank for token, rank in learner.get_mergeable_ranks()}
    return Vocabulary(ranks, qwen_special_tokens(len(ranks)))
