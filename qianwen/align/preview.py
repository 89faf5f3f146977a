"""Preview of a training dialogue: text with a label in colour, the rest dim.

Without colour, text with a label is between ⟦ and ⟧.
"""

from itertools import groupby

from rich.text import Text

from qianwen.chat.render import Rendered
from qianwen.tokenizer.tokenizer import Tokenizer

LEARNED, MASKED = "bold green", "dim"
OPEN, CLOSE = "⟦", "⟧"
MAX_TOKENS = 400


def preview(dialogue: Rendered, tokenizer: Tokenizer, *, colour: bool) -> Text:
    """The first MAX_TOKENS tokens of a dialogue; text with a label is marked."""
    text = Text()
    for piece, is_learned in labelled_pieces(dialogue, tokenizer):
        marked = OPEN + piece + CLOSE if is_learned and not colour else piece
        text.append(marked, style=LEARNED if is_learned else MASKED)
    return text


def labelled_pieces(dialogue: Rendered, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """The text of the first MAX_TOKENS tokens in pieces, each with whether its tokens have a label."""
    pairs = list(zip(dialogue.ids, dialogue.loss_mask, strict=True))
    pieces = [
        (tokenizer.decode([token for token, _ in group]), is_learned)
        for is_learned, group in groupby(pairs[:MAX_TOKENS], key=lambda pair: pair[1])
    ]
    return [*pieces, (" …", False)] if len(pairs) > MAX_TOKENS else pieces
