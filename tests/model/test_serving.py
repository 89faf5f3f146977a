"""`serving`: packed inside the block; after it training continues with the same bits."""

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.kernels.cpu import operators
from qianwen.kernels.cpu.build import family
from qianwen.model import serving as serving_module
from qianwen.model.config import QwenConfig
from qianwen.model.fused_layers import FusedLayers, fused_layers
from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.linears.gptq_layout import Groups, group_order
from qianwen.model.linears.lora import LoraConfig, adapted, attach, without_adapter
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.linears.packed import PackedLinear, linear_norms, pack_model
from qianwen.model.serving import serving
from qianwen.model.transformer import Qwen, replace_module

from ..engine.conftest import byte_tokenizer, tiny_model

SHAPE = QwenConfig(
    vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, initializer_range=0.1, tie_word_embeddings=True,
)  # fmt: skip
IDS = torch.arange(24).reshape(2, 12)
has_kernels = pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")


def nf4(linear: nn.Linear) -> nn.Module:
    return Nf4Linear.from_float(linear.weight, linear.bias)


def gptq(linear: nn.Linear) -> nn.Module:
    codes = torch.randint(16, linear.weight.shape, dtype=torch.uint8)
    groups = linear.in_features // 32
    scales, zeros = torch.rand(len(codes), groups).half() * 0.02, torch.full((len(codes), groups), 8).byte()
    return GptqLinear(Groups(4, codes, scales, zeros, group_order(linear.in_features, 32)), linear.bias)


def build(kind: str) -> Qwen:
    """`kind` is the float type or the type of the layers' linears, with or without "lora"."""
    form, _, lora = kind.partition(" ")
    model = Qwen(SHAPE).init_weights(0)
    if form in ("nf4", "gptq"):
        for name in [name for name, _ in linear_norms(model) if name != "lm_head"]:
            replace_module(model, name, (nf4 if form == "nf4" else gptq)(model.get_submodule(name)))
    if form == "packed":
        pack_model(model, 8)
    if lora:
        attach(model, LoraConfig(rank=4, alpha=8, dropout=0.1))
        for _, linear in adapted(model):
            nn.init.normal_(linear.lora_B, std=0.05)
    return model.to(torch.bfloat16) if form == "bf16" else model


KINDS = ["fp32", "bf16", "fp32 lora", "bf16 lora", "nf4 lora", "gptq lora", "packed lora"]


def logits(model: Qwen) -> Tensor:
    with torch.no_grad():
        return model.logits(model(IDS)).float()


def distance(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).norm() / (expected - expected.mean(-1, keepdim=True)).norm()).item()


def steps(model: Qwen, serve: bool, count: int = 3) -> list[Tensor]:
    """Losses, gradients and weights of a few steps of SGD, with or without generation in between."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer, seen = torch.optim.SGD(trained, lr=0.1), []
    torch.manual_seed(1)
    for _ in range(count):
        if serve:
            with serving(model):
                logits(model.eval())
                model.train()
        loss = model.logits(model(IDS)).float().square().mean()
        loss.backward()
        seen += [loss.detach(), *(weight.grad.clone() for weight in trained if weight.grad is not None)]
        optimizer.step()
        optimizer.zero_grad()
        seen += [weight.detach().clone() for weight in trained]
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_training_continues_with_the_same_bits(kind: str) -> None:
    model = build(kind).train()
    never = steps(copy.deepcopy(model), serve=False)
    served = steps(model, serve=True)
    assert len(served) == len(never) > 10
    assert all(torch.equal(a, b) for a, b in zip(served, never, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_restored_also_after_an_error(kind: str) -> None:
    model = build(kind).train()
    model.model.layers[1].eval()  # whoever froze a part finds it as it was
    model.model.layers[0].mlp.forward = model.model.layers[0].mlp.forward  # as recomputation wraps it
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    modes = {name: module.training for name, module in modules.items()}
    learns = {name: weight.requires_grad for name, weight in parameters.items()}
    values = {name: weight.clone() for name, weight in parameters.items()}
    random_state = torch.get_rng_state()
    with pytest.raises(KeyError), serving(model):
        model.eval()
        raise KeyError
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(a is b for a, b in zip(model.modules(), modules.values(), strict=True))
    assert list(dict(model.named_parameters())) == list(parameters)
    for name, weight in model.named_parameters():
        assert weight is parameters[name] and torch.equal(weight, values[name])
        assert weight.requires_grad == learns[name] and weight.dtype == values[name].dtype
    assert {name: module.training for name, module in model.named_modules()} == modes


@has_kernels
@pytest.mark.parametrize("kind", KINDS)
def test_inside_the_block_all_linears_are_packed_and_answers_are_close(kind: str) -> None:
    model = build(kind).eval()
    expected = logits(model)
    with serving(model):
        assert all(isinstance(model.get_submodule(name), PackedLinear) for name, _ in linear_norms(model))
        few_bits = {"int8"} if kind[:4] in ("nf4 ", "gptq", "pack") else {"bf16"}
        layers = [module for name, module in model.model.named_modules() if isinstance(module, PackedLinear)]
        assert {linear.format for linear in layers} == few_bits
        assert model.model.norm.weight.dtype == torch.float32
        error = distance(logits(model), expected)
    assert error < (0.05 if few_bits == {"int8"} else 0.02 if kind.startswith("bf16") else 0.01)
    assert torch.equal(logits(model), expected)


@has_kernels
@pytest.mark.parametrize("kind", ["bf16", "bf16 lora"])
def test_floats_can_be_packed_to_eight_bits(kind: str) -> None:
    model = build(kind).eval()
    expected = logits(model)
    with serving(model, bits=8):
        linears = [module for module in model.modules() if isinstance(module, PackedLinear)]
        assert len(linears) == 15 and {linear.format for linear in linears} == {"int8"}
        assert distance(logits(model), expected) < 0.05
    assert torch.equal(logits(model), expected)


@has_kernels
def test_codes_without_an_adapter_are_exact() -> None:
    model = build("gptq").eval()
    weight = model.model.layers[0].mlp.up_proj.dequantize()
    with serving(model):
        packed = model.model.layers[0].mlp.up_proj
        assert packed.format == "q4_0" and torch.equal(packed.dequantize(), weight) and packed.splits_outliers
    assert isinstance(model.model.layers[0].mlp.up_proj, GptqLinear)


@has_kernels
def test_a_merged_adapter_has_no_larger_error_than_the_packed_base() -> None:
    model = build("nf4 lora").eval()
    errors = []
    for switched_off in (True, False):
        for _, lora in adapted(model):
            lora.is_active = not switched_off
        expected = logits(model)
        with serving(model):
            errors.append(distance(logits(model), expected))
    base_alone, merged = errors
    assert merged < 1.5 * base_alone


@has_kernels
def test_serving_works_without_the_adapter() -> None:
    model = build("bf16 lora").eval()
    with without_adapter(model):
        reference = logits(model)
        with serving(model):
            assert distance(logits(model), reference) < 0.02
    assert distance(logits(model), reference) > 0.1


@has_kernels
def test_new_weights_are_packed_again_and_their_memory_is_freed() -> None:
    model, seen = build("fp32").eval(), []
    for _ in range(2):
        with serving(model):
            seen.append(weakref.ref(model.lm_head.packed))
            first = logits(model)
        assert seen[-1]() is None
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.mul_(-1)
    with serving(model):
        assert not torch.equal(logits(model), first)


@has_kernels
def test_nested_blocks_and_packed_weights_change_nothing() -> None:
    model = build("fp32").eval()
    with serving(model):
        decoder = model.model
        with serving(model):
            assert model.model is decoder
        assert model.model is decoder
    packed = build("packed").eval()
    decoder = packed.model
    with serving(packed):
        assert packed.model is decoder


@pytest.mark.parametrize("missing", ["kernels", "memory"])
def test_without_kernels_or_memory_the_block_changes_nothing(missing: str, monkeypatch, capsys) -> None:
    if missing == "kernels":
        monkeypatch.setattr(operators, "available", lambda: False)
    else:
        monkeypatch.setattr(serving_module, "free_memory_bytes", lambda device: 1000)
    model = build("nf4 lora").eval()
    decoder = model.model
    with serving(model):
        assert model.model is decoder
    assert ("packed weights need" in capsys.readouterr().out) == (missing == "memory" and operators.available())


def answers(llm: LLM) -> list[list[int]]:
    params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    return [answer.outputs[0].token_ids for answer in llm.generate([[7, 8, 9], [3], list(range(40))], params)]


@has_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_engine_uses_the_current_weights_in_each_block(dtype: torch.dtype) -> None:
    """Inside and outside of blocks; the answers are those of bf16 weights, computed in fp32."""
    model, tokenizer = tiny_model().bfloat16(), byte_tokenizer()

    def expected() -> list[list[int]]:
        return answers(LLM(copy.deepcopy(model).float(), tokenizer))

    model.to(dtype)
    with serving(model):
        # In the batch-invariant mode activations stay in fp32 whatever the processor multiplies faster.
        llm = LLM(model, tokenizer, EngineConfig(batch_invariant=True))
        first = answers(llm)
        fused = fused_layers(model, is_invariant=True)
        assert isinstance(fused, FusedLayers) and len(fused.layers) == 2
    assert first == expected()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(-1)
    llm.clear_cache()
    with serving(model):
        second = answers(llm)
    assert second != first and second == expected()
    llm.clear_cache()
    outside = answers(llm)
    assert all(len(answer) == 12 for answer in outside)
    if dtype == torch.float32:  # bf16 rounds at other places
        assert outside == second
