"""The meter of the chat page."""

import re
from collections.abc import Callable, Iterator

import pytest

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import LongContext
from qianwen.model.transformer import Qwen
from qianwen.serve.bridge import Bridge
from qianwen.serve.service import Served
from qianwen.serve.ui.meter import meter


@pytest.fixture(scope="module")
def served(tokenizer) -> Iterator[Callable[..., Served]]:
    """A model for 100 tokens, served with these settings of its engine."""
    config = QwenConfig(
        vocab_size=272, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=100,
    )  # fmt: skip
    model, bridges = Qwen(config).init_weights(0).eval(), []

    def serve(**options: object) -> Served:
        llm = LLM(model, tokenizer, EngineConfig(block_size=4, num_blocks=400, **options))
        bridges.append(Bridge(llm.engine))
        return Served("tiny", bridges[-1], tokenizer, llm.engine.max_model_len)

    yield serve
    for bridge in bridges:
        bridge.close()


@pytest.mark.parametrize(
    ("used", "state"), [(0, "low"), (79, "low"), (80, "high"), (99, "high"), (100, "full"), (500, "full")]
)
def test_the_meter_warns_before_the_context_is_full(served, used: int, state: str) -> None:
    shown = meter(served(), used)
    assert f'<label class="{state}">' in shown and f'value="{min(used, 100)}"' in shown and "beyond" not in shown


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "extended by dynamic NTK; quality is measured up to 8×"), ("zh", "由动态 NTK 扩展；质量测到 8 倍")],
)
def test_one_more_line_says_what_extends_a_long_conversation(served, monkeypatch, language: str, words: str) -> None:
    monkeypatch.setenv("QIANWEN_LANG", language)
    extended = served(max_model_len=800, extension=LongContext(rope="dynamic_ntk"))
    assert "beyond" not in meter(extended, 100)
    (note,) = re.findall('<span class="beyond">(.*?)</span>', meter(extended, 101))
    assert note.endswith(words) and "100" in note
    assert "beyond" not in meter(extended, 800), "then it says that the text is too long"
