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
    pairs = list(zip(dialogue.ids, dialogue.loss_mask, strict=True))
    for is_learned, group in groupby(pairs[:MAX_TOKENS], key=lambda pair: pair[1]):
        piece = tokenizer.decode([token for token, _ in group])
        if is_learned and not colour:
            piece = OPEN + piece + CLOSE
        text.append(piece, style=LEARNED if is_learned else MASKED)
    if len(pairs) > MAX_TOKENS:
        text.append(" …", style=MASKED)
    return text
