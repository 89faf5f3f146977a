"""Known answers for losses by length: a uniform network, sums by hand, and the same tokens at every length."""

import math

import pytest
import torch

from qianwen.eval.length_windows import BATCH_TOKENS, check_lengths, cut_windows, window_loss, window_nats
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError

LENGTHS = (8, 16, 64)


def network(*, initializer_range: float = 0.3, **fields) -> Qwen:
    shape = {
        "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 64, "initializer_range": initializer_range,
    }  # fmt: skip
    return Qwen(QwenConfig(**(shape | fields))).init_weights(0).eval()


def document(length: int = 200) -> list[int]:
    return torch.randint(50, (length,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_uniform_network_has_the_perplexity_of_its_vocabulary_at_every_length(length: int) -> None:
    loss = window_loss(window_nats(network(initializer_range=1e-12), cut_windows(document(), length, 128)), LENGTHS[0])
    for amount, count in loss:
        assert math.exp(amount / count) == pytest.approx(50)


def test_windows_are_consecutive_and_begin_with_the_document() -> None:
    assert cut_windows([5, 6, 7, 8, 9, 10, 11], 2, 6).tolist() == [[5, 6], [7, 8], [9, 10]]


def test_every_length_scores_the_same_tokens() -> None:
    scored = []
    for length in LENGTHS:
        nats = torch.eye(64)  # the k-th loss is 1 for the k-th token only: which tokens count, shows in the sum
        tokens = cut_windows(range(64), length, 64)
        counted = {
            token for token in range(64) if window_loss(nats[token][tokens][:, 1:], LENGTHS[0]).every_token.amount
        }
        scored.append(counted)
    assert scored == [{token for token in range(64) if token % 8}] * 3


def test_sums_by_hand() -> None:
    nats = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0], [100.0] * 7])  # of tokens 1 to 7 of two windows
    loss = window_loss(nats, 4)
    assert loss.every_token == (1 + 2 + 4 + 16 + 32 + 64 + 600, 12)  # the token at place 4 begins a short window
    assert loss.last_quarter == (32 + 64 + 200, 4)  # places 6 and 7 of 8


def test_sums_do_not_depend_on_how_windows_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = network(), cut_windows(document(), 16, 128)
    whole = window_nats(model, tokens)
    monkeypatch.setattr("qianwen.eval.length_windows.BATCH_TOKENS", 16)
    monkeypatch.setattr("qianwen.eval.length_windows.HEAD_ROWS", 5)
    assert BATCH_TOKENS >= 128
    torch.testing.assert_close(window_nats(model, tokens), whole, rtol=1e-5, atol=1e-5)


def test_a_window_sees_nothing_of_the_one_before() -> None:
    model, tokens = network(), cut_windows(document(), 16, 128)
    torch.testing.assert_close(window_nats(model, tokens[3:4]), window_nats(model, tokens)[3:4], rtol=1e-5, atol=1e-5)
    own = model.logits(model(tokens[3:4]))[0, :-1].log_softmax(-1).gather(1, tokens[3, 1:, None])[:, 0]
    torch.testing.assert_close(window_nats(model, tokens[3:4])[0], -own, rtol=1e-5, atol=1e-5)


def test_methods_for_long_texts_change_nothing_up_to_the_trained_length() -> None:
    methods = {"use_dynamic_ntk": True, "use_logn_attn": True, "layer_windows": (16, 32)}
    plain, extended = network(train_len=16), network(train_len=16, **methods)
    sums = {
        n: [window_loss(window_nats(m, cut_windows(document(), n, 128)), 8) for m in (plain, extended)] for n in LENGTHS
    }
    assert sums[8][0] == sums[8][1] and sums[16][0] == sums[16][1]
    assert sums[64][0] != sums[64][1]


@pytest.mark.parametrize("lengths", [(8, 12), (8, 16, 24), (1, 2)])
def test_lengths_must_divide_each_other(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        check_lengths(lengths)


def test_doublings_and_other_multiples_are_accepted() -> None:
    for lengths in (LENGTHS, (6, 12, 36), (64,)):
        check_lengths(lengths)
