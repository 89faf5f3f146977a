"""The vocabulary inside a GGUF file ↔ ours.

llama.cpp stores each token as text in GPT-2's alphabet (every byte has a printable character), its kind, the merges in
order, and the name of the pattern that splits text before merging. Our ranks are the token ids, which is the same
thing wherever the merges make tokens in the order of their ids; a file where they do not is refused.
Byte-level BPE only: SentencePiece vocabularies (`tokenizer.ggml.model` = llama) are refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.byte_pairs import bytes_to_text, text_to_bytes
from qianwen.tokenizer.patterns import QWEN_PATTERN
from qianwen.tokenizer.vocab import Vocabulary

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5  # llama.cpp's kinds of token

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+"
# What llama.cpp's names of splitting patterns stand for.
PATTERNS = {
    "qwen2": QWEN_PATTERN,
    "llama-bpe": _WORDS + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt-2": _GPT2 + r"| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # Digits are cut out one by one before the rest is split, so blanks before a digit stay together.
    "smollm": _GPT2 + r"|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+",
}


def read_vocabulary(metadata: Mapping[str, Any], path: Path) -> Vocabulary:
    """The tokens of a file, with its ids. CheckpointError if they are broken, ConfigError if they are another kind."""
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or not isinstance(pre, str) or pre not in PATTERNS:
        message = "{path}: vocabulary {kind!r} split as {pre!r} is not supported; supported: gpt2 with {known}"
        raise ConfigError(tr(message, path=path, kind=kind, pre=pre, known=", ".join(PATTERNS)))
    texts, kinds = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    merges = metadata.get("tokenizer.ggml.merges")
    lists = isinstance(texts, list) and isinstance(merges, list) and isinstance(kinds, np.ndarray)
    if not lists or len(texts) != len(kinds):
        raise CheckpointError(tr("{path}: tokens, token types and merges do not fit together", path=path))
    kinds = kinds.tolist()
    try:
        ranks = {text_to_bytes(text): token for token, text in enumerate(texts) if kinds[token] == NORMAL}
    except KeyError as error:
        message = "{path}: {char} is not a character of the byte-level alphabet"
        raise CheckpointError(tr(message, path=path, char=error)) from error
    special = {text: token for token, text in enumerate(texts) if kinds[token] in (CONTROL, USER_DEFINED, UNKNOWN)}
    ids = {text: token for token, text in enumerate(texts)}
    made = [ids.get(merge.replace(" ", "", 1), -1) for merge in merges]
    if any(later <= earlier for earlier, later in zip([-1, *made], made, strict=False)):
        raise CheckpointError(tr("{path}: its merges do not make tokens in the order of their ids", path=path))
    visible = frozenset(text for text, token in special.items() if kinds[token] == USER_DEFINED)
    return Vocabulary(ranks=ranks, special_tokens=special, pattern=PATTERNS[pre], visible=visible)


def vocabulary_metadata(vocabulary: Vocabulary, vocab_size: int) -> dict[str, Any]:
    """The `tokenizer.ggml.*` entries; rows of the embedding beyond the vocabulary become unused tokens."""
    pre = next((name for name, pattern in PATTERNS.items() if pattern == vocabulary.pattern), None)
    if pre is None:
        message = "llama.cpp has no name for the pattern of this vocabulary: {pattern}"
        raise ConfigError(tr(message, pattern=vocabulary.pattern))
    texts = [f"[PAD{token}]" for token in range(vocab_size)]
    kinds = np.full(vocab_size, UNUSED, np.int32)
    for token_bytes, token in vocabulary.ranks.items():
        texts[token], kinds[token] = bytes_to_text(token_bytes), NORMAL
    for text, token in vocabulary.special_tokens.items():
        texts[token], kinds[token] = text, CONTROL if vocabulary.is_control(text) else USER_DEFINED
    merges = [f"{bytes_to_text(left)} {bytes_to_text(right)}" for left, right in vocabulary.merges()]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_bos_token": False,
    }
