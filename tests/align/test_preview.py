"""The preview marks what the mask marks."""

from qianwen.align.preview import LEARNED, MAX_TOKENS, preview
from qianwen.chat import Message, render
from qianwen.chat.render import Rendered
from qianwen.tokenizer.tokenizer import Tokenizer


def test_learned_text_is_marked(tokenizer: Tokenizer) -> None:
    one = render([Message("user", "question"), Message("assistant", "answer")], tokenizer)
    plain = preview(one, tokenizer, colour=False).plain
    assert "⟦answer<|im_end|>⟧" in plain and "⟦" not in plain.split("answer")[0][:-1]
    coloured = preview(one, tokenizer, colour=True)
    assert coloured.plain == tokenizer.decode(one.ids)
    learned = [coloured.plain[span.start : span.end] for span in coloured.spans if span.style == LEARNED]
    assert learned == ["answer<|im_end|>"]


def test_a_long_dialogue_is_cut(tokenizer: Tokenizer) -> None:
    long = Rendered([65] * (MAX_TOKENS + 50), [True] * (MAX_TOKENS + 50))
    assert preview(long, tokenizer, colour=True).plain == "A" * MAX_TOKENS + " …"
