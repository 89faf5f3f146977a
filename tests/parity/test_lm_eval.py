"""lm-eval with our engine and with transformers: the same answers to the same requests, same weights, fp32."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval", reason="needs lm-eval, of the extra `lm-eval`")
pytest.importorskip("transformers", reason="needs transformers, of the extra `parity`")
pytest.importorskip("accelerate", reason="lm-eval's model of transformers needs accelerate")

from lm_eval.api.instance import Instance

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval.lm_eval_adapter import HarnessModel
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("default")
LENGTH = 128
LONG = " ".join(str(number) for number in range(200))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Our adapter and lm-eval's own model, over the same random weights."""
    from lm_eval.models.huggingface import HFLM

    tokenizer = Tokenizer.qwen()
    shape = QwenConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    network = Qwen(shape).init_weights(0).eval()
    folder: Path = tmp_path_factory.mktemp("weights")
    write_folder(network, tokenizer, folder, chat=True, dtype=torch.float32)
    ours = HarnessModel(LLM(network, tokenizer, EngineConfig(max_model_len=LENGTH)))
    same = {"max_length": LENGTH - 1, "prefix_token_id": tokenizer.eod_id}
    theirs = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=2, **same)
    return ours, theirs


def requests(kind: str, *arguments: tuple) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=each, idx=number, metadata=("task", number, 1))
        for number, each in enumerate(arguments)
    ]


@pytest.mark.parametrize(
    "pairs",
    [
        [("Question: 2 + 2 =\nAnswer:", f" {letter}") for letter in "ABCD"],
        [("The cat sat", " on the mat"), ("The cat sat", " down"), ("猫坐在", "垫子上。")],
        [("", "A document without a context"), ("", "x")],
        [("ends with spaces   ", "and goes on"), ("a\n\n", "b")],
        [(LONG, " and then some"), (LONG, "!")],
        [("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "Hello there!")],
    ],
    ids=["letters", "continuations", "no context", "spaces", "too long", "special tokens"],
)
def test_likelihoods(both, pairs) -> None:
    ours, theirs = (model.loglikelihood(requests("loglikelihood", *pairs)) for model in both)
    for mine, his in zip(ours, theirs, strict=True):
        assert mine == (pytest.approx(his[0], abs=1e-3), his[1])


@pytest.mark.parametrize("text", ["short", LONG, LONG[:300], "猫" * 130, "word " * 126, "a"])
def test_rolling_likelihoods(both, text: str) -> None:
    ours, theirs = (model.loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))[0] for model in both)
    assert ours == pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize(
    ("context", "options"),
    [
        ("Once upon a time", {"max_gen_toks": 12, "until": []}),
        ("Once upon a time", {"max_gen_toks": 30, "until": ["a", "o"]}),
        ("从前有一只猫", {"max_gen_toks": 12, "until": ["\n\n"], "do_sample": False}),
        (LONG, {"max_gen_toks": 12, "until": ["\n"]}),
    ],
)
def test_texts(both, context: str, options: dict) -> None:
    ours, theirs = (model.generate_until(requests("generate_until", (context, options)))[0] for model in both)
    assert ours == theirs


@pytest.mark.parametrize("roles", ["u", "su", "uau"])
def test_chats(both, roles: str) -> None:
    names = {"u": "user", "s": "system", "a": "assistant"}
    history = [{"role": names[role], "content": f"message {number}"} for number, role in enumerate(roles)]
    ours, theirs = (model.apply_chat_template(history) for model in both)
    assert ours == theirs
    begun = [*history, {"role": "assistant", "content": "The answer is"}]
    assert both[0].apply_chat_template(begun, False) == both[1].apply_chat_template(begun, False)
