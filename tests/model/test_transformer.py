import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from qianwen.model import Qwen, QwenConfig, transformer
from qianwen.model.caches.contiguous import ContiguousCache
from qianwen.model.loss import chunked_cross_entropy
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Layer, RMSNorm, set_dropout
from qianwen.runtime.errors import ConfigError

CONFIG = QwenConfig(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
)


def build(config=CONFIG, dtype=torch.float32):
    return Qwen(config).init_weights(0).to(dtype)


def pack(lengths, num_rows=1):
    """Positions [num_rows, T] of documents of `lengths`, the same number of tokens in every row."""
    return torch.cat([torch.arange(length) for length in lengths]).view(num_rows, -1)


def loss_of(model, ids, positions=None):
    """Summed loss of predicting each next token, never across the end of a document."""
    hidden = model(ids, positions)
    labels = torch.full_like(ids, -100)
    labels[:, :-1] = ids[:, 1:]
    if positions is not None:
        labels[:, :-1][positions[:, 1:] == 0] = -100
    return chunked_cross_entropy(hidden, model.lm_head.weight, labels)[0]


class TestPacking:
    MODEL = build(dtype=torch.double)
    WINDOWED = build(dataclasses.replace(CONFIG, layer_windows=(4, 0)), torch.double)

    @torch.no_grad()
    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.integers(1, 24), min_size=1, max_size=8), st.booleans())
    def test_the_loss_of_a_pack_is_that_of_its_documents(self, lengths, is_windowed):
        model = self.WINDOWED if is_windowed else self.MODEL
        ids = torch.randint(96, (1, sum(lengths)))
        packed = loss_of(model, ids, pack(lengths)).item()
        alone = sum(loss_of(model, document).item() for document in ids.split(lengths, dim=1))
        assert packed == pytest.approx(alone, rel=1e-6)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(2, 20), min_size=2, max_size=6), st.data())
    def test_no_gradient_crosses_a_boundary(self, lengths, data):
        chosen = data.draw(st.integers(0, len(lengths) - 1))
        states = torch.randn(sum(lengths), 32, dtype=torch.double, requires_grad=True)
        ids = torch.zeros(1, sum(lengths), dtype=torch.long)
        hidden = self.MODEL(ids, pack(lengths), features=[(0, 0, states)])
        start = sum(lengths[:chosen])
        end = start + lengths[chosen]
        (gradient,) = torch.autograd.grad(hidden[0, start:end].square().sum(), states)
        assert gradient[start:end].any()
        assert not gradient[:start].any() and not gradient[end:].any()  # exactly zero

    @pytest.mark.parametrize("lengths", [[6, 6, 6, 6], [12, 12], [5, 7, 3, 9], [24]])
    def test_rows_are_packed_independently(self, lengths):
        if sum(lengths[: len(lengths) // 2]) != 12:
            lengths = [12, 12]
        ids = torch.randint(96, (2, 12))
        hidden = self.MODEL(ids, pack(lengths, num_rows=2))
        flat = self.MODEL(ids.view(1, 24), pack(lengths))
        torch.testing.assert_close(hidden.view(1, 24, -1), flat)

    def test_each_row_begins_a_document(self):
        ids = torch.randint(96, (1, 8))
        positions = torch.tensor([[3, 4, 5, 0, 1, 2, 3, 4]])
        torch.testing.assert_close(self.MODEL(ids, positions)[:, 3:], self.MODEL(ids[:, 3:]))

    def test_ntk_acts_by_the_length_of_each_document(self):
        config = dataclasses.replace(CONFIG, train_len=8, use_dynamic_ntk=True, use_logn_attn=True)
        model, lengths = build(config).eval(), [6, 30, 12]
        ids = torch.randint(96, (1, 48))
        alone = torch.cat([model(document) for document in ids.split(lengths, dim=1)], dim=1)
        torch.testing.assert_close(model(ids, pack(lengths)), alone, rtol=1e-5, atol=1e-5)


def test_ntk_and_logn_are_off_in_training():
    config = dataclasses.replace(CONFIG, train_len=8, use_dynamic_ntk=True, use_logn_attn=True)
    model, plain, ids = build(config), build(CONFIG), torch.randint(96, (1, 30))
    assert torch.equal(model.train()(ids), plain(ids))
    assert not torch.allclose(model.eval()(ids), plain(ids), atol=1e-3)


def test_a_network_trained_with_logn_computes_the_same_in_training_and_inference():
    config = dataclasses.replace(CONFIG, train_len=16, use_logn_attn=True, logn_in_training=True)
    model, ids = build(config), torch.randint(96, (1, 30))
    packed = model.train()(ids, pack([12, 18]))
    assert torch.equal(packed, model.eval()(ids, pack([12, 18])))
    assert not torch.allclose(packed, build(CONFIG)(ids, pack([12, 18])), atol=1e-3)
    documents = [model(document, cache=ContiguousCache(config)) for document in ids.split([12, 18], dim=1)]
    torch.testing.assert_close(packed, torch.cat(documents, dim=1), rtol=1e-5, atol=1e-5)


def test_within_the_trained_length_nothing_changes():
    config = dataclasses.replace(CONFIG, train_len=30, use_dynamic_ntk=True, use_logn_attn=True)
    ids = torch.randint(96, (1, 30))
    assert torch.equal(build(config).eval()(ids), build(CONFIG).eval()(ids))


def test_features_replace_spans():
    model, ids = build(), torch.randint(96, (2, 10))
    states = model.model.embed_tokens(ids).detach()
    blank = ids.clone()
    blank[0, 2:5], blank[1, 7:] = 0, 0
    features = [(0, 2, states[0, 2:5].requires_grad_()), (1, 7, states[1, 7:])]
    hidden = model(blank, features=features)
    torch.testing.assert_close(hidden, model(ids))
    (gradient,) = torch.autograd.grad(hidden.sum(), features[0][2])
    assert gradient.shape == (3, 32) and gradient.any()


@pytest.mark.parametrize(
    "changes",
    [{}, {"qk_norm": True, "qkv_bias": False, "head_dim": 16}, {"tie_word_embeddings": True, "layer_windows": (3, 0)}],
    ids=["qwen2", "qwen3", "tied-windowed"],
)
def test_gradients_equal_finite_differences(changes):
    model = build(dataclasses.replace(CONFIG, **changes), torch.double)
    ids, positions = torch.randint(96, (1, 12)), pack([5, 7])
    loss_of(model, ids, positions).backward()
    for parameter in model.parameters():
        index = parameter.grad.abs().argmax()
        flat = parameter.data.view(-1)
        before = flat[index].item()
        sides = []
        for step in (1e-5, -1e-5):
            flat[index] = before + step
            sides.append(loss_of(model, ids, positions).item())
        flat[index] = before
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(parameter.grad.view(-1)[index].item(), rel=1e-4, abs=1e-7)


def test_run_layer_is_an_argument_of_each_forward():
    model, ids, seen, gradients = build(), torch.randint(96, (2, 9)), [], []

    def recomputed(layer, *args):
        seen.append(layer)
        return checkpoint(layer, *args, use_reentrant=False)

    for run_layer in (recomputed, transformer.run_layer):
        model.zero_grad()
        model.logits(model(ids, run_layer=run_layer)).square().mean().backward()
        gradients.append([weight.grad.clone() for weight in model.parameters()])
    assert seen == [*model.model.layers]
    torch.testing.assert_close(*gradients)


def test_the_norm_casts_back_before_it_scales():
    norm = RMSNorm(64, 1e-6).bfloat16()
    norm.weight.data.normal_()
    x = torch.randn(5, 64).bfloat16()
    wide = x.float()
    normal = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).bfloat16()
    assert torch.equal(norm(x), normal * norm.weight)


def test_rotary_angles_stay_exact_in_bf16():
    model, half = build(), build(dtype=torch.bfloat16)
    positions = torch.tensor([[0, 1, 300, 511]])
    tables = (network.model.rotary(positions, RopeState()).k for network in (model, half))
    for exact, cast in zip(*tables, strict=True):
        assert cast.dtype == torch.float32 and torch.equal(exact, cast)


@torch.no_grad()
def test_scores_depend_only_on_the_distance():
    model, ids = build().double(), torch.randint(96, (1, 10))
    positions = torch.arange(10)[None]
    torch.testing.assert_close(model(ids, positions + 100), model(ids, positions), rtol=1e-5, atol=1e-5)


def test_initial_weights_follow_the_reference():
    config = dataclasses.replace(CONFIG, hidden_size=256, intermediate_size=512, num_hidden_layers=8)
    model = Qwen(config).init_weights(1)
    layer = model.model.layers[3]
    for weight, std in [
        (model.model.embed_tokens.weight, 0.02),
        (model.lm_head.weight, 0.02),
        (layer.self_attn.q_proj.weight, 0.02),
        (layer.mlp.gate_proj.weight, 0.02),
        (layer.self_attn.o_proj.weight, 0.02 / math.sqrt(16)),
        (layer.mlp.down_proj.weight, 0.02 / math.sqrt(16)),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.03) and abs(weight.mean().item()) < 0.03 * std
    assert not layer.self_attn.k_proj.bias.any() and (layer.input_layernorm.weight == 1).all()
    again, other = Qwen(config).init_weights(1), Qwen(config).init_weights(2)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(other.lm_head.weight, model.lm_head.weight)


def test_tied_weights_stay_tied():
    config = dataclasses.replace(CONFIG, tie_word_embeddings=True)
    with torch.device("meta"):
        model = Qwen(config)
    model.to_empty(device="cpu")
    model.tie_weights()
    model.init_weights(0)
    twin = copy.deepcopy(model)
    assert twin.lm_head.weight is twin.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(twin.named_parameters())


def test_parameter_names_are_hugging_faces():
    names = {name.replace("layers.1", "layers.0") for name, _ in build().named_parameters()}
    layer = [f"self_attn.{x}_proj.{kind}" for x in "qkv" for kind in ("weight", "bias")] + ["self_attn.o_proj.weight"]
    layer += [f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")]
    layer += ["input_layernorm.weight", "post_attention_layernorm.weight"]
    outside = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    assert names == {f"model.layers.0.{name}" for name in layer} | set(outside)


def test_it_overfits_one_batch():
    model, ids = build(), torch.randint(96, (2, 16))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = loss_of(model, ids).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_of(model, ids) / 30
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 < first / 30


def test_training_works_after_inference_mode():
    model, ids = build(), torch.randint(96, (1, 8))
    with torch.inference_mode():
        model(ids)
    loss_of(model, ids).backward()


class TestDropout:
    """Residual dropout: in training only, from the global generator, and no part of the checkpoint."""

    def test_without_it_training_and_inference_are_the_same_and_draw_no_number(self):
        model, ids = build(), torch.randint(96, (1, 12))
        set_dropout(model, 0.0)
        state = torch.get_rng_state()
        assert torch.equal(model.train()(ids), model.eval()(ids))
        assert torch.equal(torch.get_rng_state(), state)

    def test_it_acts_in_training_only_and_repeats_with_the_generator(self):
        model, ids = build(), torch.randint(96, (2, 12))
        plain = model.eval()(ids)
        set_dropout(model, 0.3)
        assert torch.equal(model.eval()(ids), plain)
        model.train()
        torch.manual_seed(1)
        first, second = model(ids), model(ids)
        torch.manual_seed(1)
        assert torch.equal(model(ids), first)
        assert not torch.equal(first, second) and not torch.equal(first, plain)

    def test_a_branch_keeps_its_mean(self):
        layer = Layer(CONFIG, 0)
        layer.dropout.p = 0.25
        dropped = layer.train().dropout(torch.ones(100_000))
        assert dropped.mean().item() == pytest.approx(1, abs=0.01)
        assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
        assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])

    def test_the_embeddings_and_the_attention_weights_are_not_dropped(self):
        """With all branches zeroed (p near 1) the tokens go through unchanged, as in the released config."""
        model, ids = build(), torch.randint(96, (1, 6))
        set_dropout(model, 1 - 1e-7)
        torch.manual_seed(0)
        hidden = model.train()(ids)
        assert torch.equal(hidden, model.model.norm(model.model.embed_tokens(ids)))

    def test_the_weights_and_their_names_do_not_change(self):
        model = build()
        names = model.state_dict().keys()
        set_dropout(model, 0.1)
        assert model.state_dict().keys() == names and not [name for name in names if "dropout" in name]

    @pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
    def test_a_wrong_value_is_refused(self, value):
        with pytest.raises(ConfigError, match="dropout = .* is not valid: use a number from 0 to below 1"):
            set_dropout(build(), value)
