"""The vocabulary of a GGUF file ↔ ours.

llama.cpp stores each token as text in GPT-2's alphabet (a printable character for each byte), its type, the merges in
order, and the name of the pattern that splits text before merging. Our ranks are the token ids. That is equivalent if
the merges create tokens in the order of their ids; other files are rejected. The name of the pattern also says whether
text is composed first (NFC): Qwen's vocabularies do this, the others do not.
Only byte-level BPE is supported; SentencePiece vocabularies (`tokenizer.ggml.model` = llama) are rejected.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.log import notices
from qianwen.runtime.translation import tr
from qianwen.tokenizer.byte_pairs import bytes_to_text, text_to_bytes
from qianwen.tokenizer.patterns import QWEN_PATTERN
from qianwen.tokenizer.vocab import Vocabulary

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5  # token types of llama.cpp

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+"
# llama.cpp's name of each pattern → the pattern.
PATTERNS = {
    "qwen2": QWEN_PATTERN,
    "llama-bpe": _WORDS + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt-2": _GPT2 + r"| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # Each digit is split off before the rest, so several spaces before a digit stay together.
    "smollm": _GPT2 + r"|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+",
}

# Other names that llama.cpp gives to the same patterns.
SAME_PATTERNS = {
    "qwen2": ("deepseek-r1-qwen", "kormo", "megrez"),
    "llama-bpe": ("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "smaug-bpe"),
    "gpt-2": ("phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0", "mellum", "exaone4"),
}
PATTERN_OF = {name: name for name in PATTERNS} | {
    other: name for name, others in SAME_PATTERNS.items() for other in others
}
NFC = ("qwen2", "deepseek-r1-qwen")  # vocabularies that compose text


def read_vocabulary(metadata: Mapping[str, Any], path: Path) -> Vocabulary:
    """The tokens of a file with its ids. CheckpointError if they are damaged, ConfigError for an unsupported type."""
    pre = _pattern_name(metadata, path)
    texts, kinds = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    merges = metadata.get("tokenizer.ggml.merges")
    lists = isinstance(texts, list) and isinstance(merges, list) and isinstance(kinds, np.ndarray)
    if not lists or len(texts) != len(kinds):
        message = "{path}: tokens, token types or merges are missing or differ in number; fetch the file again"
        raise CheckpointError(tr(message, path=path))
    kinds = kinds.tolist()
    try:
        ranks = {text_to_bytes(text): token for token, text in enumerate(texts) if kinds[token] == NORMAL}
    except KeyError as error:
        message = "{path}: the character {char} is not in the alphabet of byte-level BPE; fetch the file again"
        raise CheckpointError(tr(message, path=path, char=error)) from error
    special = {text: token for token, text in enumerate(texts) if kinds[token] in (CONTROL, USER_DEFINED, UNKNOWN)}
    ids = {text: token for token, text in enumerate(texts)}
    made = [ids.get(merge.replace(" ", "", 1), -1) for merge in merges]
    if any(later <= earlier for earlier, later in zip([-1, *made], made, strict=False)):
        message = "{path}: the merges do not create tokens in the order of their ids; this vocabulary is not supported"
        raise CheckpointError(tr(message, path=path))
    visible = frozenset(text for text, token in special.items() if kinds[token] == USER_DEFINED)
    pattern = PATTERNS[PATTERN_OF[pre]]
    return Vocabulary(ranks=ranks, special_tokens=special, pattern=pattern, visible=visible, nfc=pre in NFC)


def _pattern_name(metadata: Mapping[str, Any], path: Path) -> str:
    """The name of the pattern; for files without one, older than the name, that of the architecture, with a warning."""
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or not isinstance(pre, str) or pre not in (*PATTERN_OF, "default"):
        message = "{path}: vocabulary {kind!r} with pattern {pre!r} is not supported; supported: gpt2 with {known}"
        raise ConfigError(tr(message, path=path, kind=kind, pre=pre, known=", ".join(PATTERN_OF)))
    if pre != "default":
        return pre
    pre = "llama-bpe" if metadata.get("general.architecture") == "llama" else "qwen2"
    message = "{path} does not name the pattern of its vocabulary (tokenizer.ggml.pre); that of {pre} is used"
    notices.print(tr(message, path=path.name, pre=pre), style="yellow", markup=False)
    return pre


def vocabulary_metadata(vocabulary: Vocabulary, vocab_size: int) -> dict[str, Any]:
    """The `tokenizer.ggml.*` entries; rows of the embedding beyond the vocabulary become unused tokens."""
    pre = next((name for name, pattern in PATTERNS.items() if pattern == vocabulary.pattern), None)
    if pre is None:
        message = "llama.cpp does not support the pattern of this vocabulary: {pattern}; export to hf instead"
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
