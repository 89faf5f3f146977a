"""Fill in the middle: the prompt with which a code model writes the text between a prefix and a suffix.

    <|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> …the model continues with the middle

This is the order of Qwen2.5-Coder's training (prefix, suffix, middle). Prefix and suffix are encoded as text, so a text
that looks like one of these tokens stays text. The model ends the middle with the end of text, or with another token of
this format, for example that of the next file.
"""

from typing import NamedTuple

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

PREFIX, SUFFIX, MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
ENDS = (PREFIX, SUFFIX, MIDDLE, "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|endoftext|>")


class InfillPrompt(NamedTuple):
    """The ids of a prompt, and the special tokens that end its answer."""

    ids: list[int]
    stop_ids: tuple[int, ...]


def infill_prompt(tokenizer: Tokenizer, prefix: str | list[int], suffix: str) -> InfillPrompt:
    """The prompt for the text between `prefix` (text or ids) and `suffix`.

    Raises RequestError, with the names of the missing tokens, if the vocabulary is not made for this.
    """
    special = tokenizer.special_tokens
    if missing := [name for name in (PREFIX, SUFFIX, MIDDLE) if name not in special]:
        message = (
            "this model cannot fill in the middle: its vocabulary has no {names}; leave out the suffix, or use a model "
            "that was trained for it, such as Qwen2.5-Coder"
        )
        raise RequestError(tr(message, names=", ".join(missing)), param="suffix")
    before = tokenizer.encode(prefix) if isinstance(prefix, str) else prefix
    ids = [special[PREFIX], *before, special[SUFFIX], *tokenizer.encode(suffix), special[MIDDLE]]
    return InfillPrompt(ids, tuple(special[name] for name in ENDS if name in special))
