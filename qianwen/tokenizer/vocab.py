"""Vocabularies: the byte strings that are tokens, the order in which they merge, and the special tokens.

A `Vocabulary` represents byte-level BPE as tiktoken does: `ranks` maps bytes → id, and the id is the merge priority.
Ids never change: control tokens keep theirs when a vocabulary grows, and new tokens get ids after all others.

A special token is an id that encoding a text never returns. There are two kinds:

    control    controls a model and is never printed: <|im_end|>, <s>, <pad>
    visible    text that a model writes, with an id of its own: <tool_call>

The files of a vocabulary mark the kind (`special` in Hugging Face's files, the token type in GGUF). If they do not,
`is_control_name` decides by the name. `Vocabulary.is_control` is the only place with this rule; files, engine and GGUF
all use it. Reading and writing files: `vocab_files.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from qianwen.tokenizer import byte_pairs
from qianwen.tokenizer.patterns import QWEN_PATTERN

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NUM_EXTRAS = 205  # <|extra_0|> …
NUM_SPECIALS = len(CONTROL_TOKENS) + NUM_EXTRAS
SENTENCE_MARKS = frozenset({"<s>", "</s>", "<unk>", "<pad>", "<mask>", "<bos>", "<eos>"})  # of Llama and older models


def is_control_name(text: str) -> bool:
    """Whether the name of a special token is that of a control token: `<|…|>`, or a mark such as `<s>`."""
    return (text.startswith("<|") and text.endswith("|>")) or text in SENTENCE_MARKS or is_deepseek_mark(text)


def is_deepseek_mark(text: str) -> bool:
    """Whether a special token is one of DeepSeek's (`<｜User｜>`, …); its files call some of them text."""
    return text.startswith("<｜") and text.endswith("｜>")


@dataclass(frozen=True)
class Vocabulary:
    """Regular tokens, special tokens, and the pattern that splits a text before BPE."""

    ranks: Mapping[bytes, int]
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    pattern: str = QWEN_PATTERN
    visible: frozenset[str] | None = None  # special tokens that are text; None: decided by their names
    nfc: bool = True  # a text is normalised to Unicode NFC before it is split

    def __post_init__(self) -> None:
        if self.visible is None:
            visible = frozenset(name for name in self.special_tokens if not is_control_name(name))
        else:
            visible = frozenset(name for name in self.visible if not is_deepseek_mark(name))
        object.__setattr__(self, "visible", visible)

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max([*self.ranks.values(), *self.special_tokens.values()], default=-1) + 1

    def is_control(self, special: str) -> bool:
        """Whether a special token is a control token, not visible text."""
        return special not in (self.visible or ())

    @property
    def control_tokens(self) -> dict[str, int]:
        """The control tokens and their ids, in the order of ids."""
        ordered = sorted(self.special_tokens.items(), key=lambda item: item[1])
        return {name: token for name, token in ordered if self.is_control(name)}

    def merges(self) -> Iterator[tuple[bytes, bytes]]:
        """The pair that merges into each token of several bytes, by rank. Takes seconds for a large vocabulary."""
        return byte_pairs.merges(self.ranks)

    def with_tokens(self, tokens: Mapping[bytes, int]) -> Vocabulary:
        """This vocabulary with more `tokens`. Tokens and ids that exist already are ignored."""
        taken = {*self.ranks.values(), *self.special_tokens.values()}
        new = {token: rank for token, rank in tokens.items() if token not in self.ranks and rank not in taken}
        return replace(self, ranks={**self.ranks, **new})


def qwen_special_tokens(start: int) -> dict[str, int]:
    """Qwen v1's 208 control tokens, from id `start` on."""
    names = (*CONTROL_TOKENS, *(f"<|extra_{i}|>" for i in range(NUM_EXTRAS)))
    return {name: start + i for i, name in enumerate(names)}
