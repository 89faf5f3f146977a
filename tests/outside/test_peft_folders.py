"""PEFT folders that need more than W + s · B A: computed as PEFT does, or refused by the name of the field."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from qianwen.checkpoints.adapter_folder import load_adapter, read_adapter
from qianwen.checkpoints.adapter_settings import read_settings
from qianwen.checkpoints.hf_weights import load_weights, save_weights
from qianwen.model.config import QwenConfig
from qianwen.model.linears.adapter_bank import AdapterBank
from qianwen.model.linears.lora import merge
from qianwen.model.linears.packed import pack_model
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore")
SHAPE = QwenConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
IDS = torch.arange(24).reshape(2, 12)
PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "base_model_name_or_path": "base"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "base"
    save_weights(Qwen(SHAPE).init_weights(3), folder)
    return folder


def logits(model: Qwen) -> torch.Tensor:
    return model.logits(model(IDS))


def trained_by_peft(base: Path, folder: Path, **fields: Any) -> torch.Tensor:
    """Train an adapter for a few steps with PEFT, save it, and return its logits."""
    transformers = pytest.importorskip("transformers", reason="the parity extra is not installed")
    peft = pytest.importorskip("peft", reason="the parity extra is not installed")
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"], "lora_dropout": 0.0}
    tuned = peft.get_peft_model(model, peft.LoraConfig(**settings | fields, task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([weight for weight in tuned.parameters() if weight.requires_grad], lr=0.02)
    for _ in range(3):
        tuned(IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned.save_pretrained(folder)
    return tuned.eval()(IDS).logits.detach()


COMPUTED = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "mica": {"init_lora_weights": "mica"},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa with rslora": {"init_lora_weights": "pissa", "use_rslora": True},
    "pissa with patterns": {
        "init_lora_weights": "pissa",
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"v_proj": 9},
    },
    "olora": {"init_lora_weights": "olora"},
    "olora in capitals": {"init_lora_weights": "OLoRA"},
    "rank_pattern": {"rank_pattern": {"q_proj": 2, r"layers\.1\..*down_proj": 6}},
    "alpha_pattern": {"alpha_pattern": {"v_proj": 12, r"model\.layers\.0\.self_attn\.q_proj": 3}},
    "first pattern wins": {"rank_pattern": {r"layers.1.self_attn.q_proj": 3, "q_proj": 5}},
    "layers_to_transform": {"layers_to_transform": [1]},
    "exclude_modules": {"exclude_modules": ["v_proj"]},
    "all linears": {"target_modules": "all-linear"},
    "modules_to_save": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "dropout": {"lora_dropout": 0.3},
    "fan_in_fan_out": {"fan_in_fan_out": True},
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_the_logits_are_those_of_peft(base: Path, tmp_path: Path, kind: str) -> None:
    expected = trained_by_peft(base, tmp_path, **COMPUTED[kind])
    model = load_adapter(load_weights(base), tmp_path)
    scale = (expected - logits(load_weights(base))).norm()
    assert scale > 0.1 and (logits(model) - expected).norm() / scale < 1e-3
    merge(model, IDS[:1])
    assert (logits(model) - expected).norm() / scale < 1e-3


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_one_network_with_many_adapters_and_packed_weights(base: Path, tmp_path: Path, init: str) -> None:
    expected = trained_by_peft(base, tmp_path, init_lora_weights=init)
    model = pack_model(load_weights(base), 16)
    bank = AdapterBank(model)
    for name in ("first", "second"):  # the second one reads the base below the first
        bank.add(name, read_adapter(model, tmp_path))
    with bank.step(["second"], [12]):
        found = model.logits(model(IDS[:1]))
    assert (found - expected[:1]).norm() / expected[:1].norm() < 0.02


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_base_with_fewer_bits_is_refused(base: Path, tmp_path: Path, init: str) -> None:
    trained_by_peft(base, tmp_path, init_lora_weights=init)
    with pytest.raises(CheckpointError, match=f"init_lora_weights = {init}.*16 bits"):
        load_adapter(pack_model(load_weights(base), 4), tmp_path)


def write(folder: Path, **fields: Any) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | fields))
    return folder


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bias", "all"),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("use_dora", True),
        ("use_qalora", True),
        ("use_bdlora", {"nblocks": 2}),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("trainable_token_indices", [1, 2]),
        ("trainable_token_indices", {"embed_tokens": [1]}),
        ("target_parameters", ["experts.gate_up_proj"]),
        ("alora_invocation_tokens", [5, 6]),
        ("arrow_config", {"top_k": 2}),
        ("kasa_config", {"beta": 1e-4}),
        ("monteclora_config", {"samples": 4}),
        ("velora_config", {"num_groups": 4}),
        ("megatron_config", {"hidden_size": 1}),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "lora_ga"),
        ("init_lora_weights", "pissa_niter_16"),
        ("init_lora_weights", "something_new"),
        ("init_lora_weights", 3),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", {"q_proj": 2.5}),
        ("rank_pattern", {"(": 2}),
        ("rank_pattern", ["q_proj"]),
        ("alpha_pattern", {"q_proj": "8"}),
    ],
    ids=str,
)
def test_other_computations_are_refused_by_name(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"adapter_config\.json: {field} = "):
        read_settings(write(tmp_path, **{field: value}))


@pytest.mark.parametrize("field", ["peft_type", "r", "lora_alpha"])
@pytest.mark.parametrize("value", [None, "LOHA", -1, [], {}])
def test_a_config_of_another_method_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    if (field, value) == ("lora_alpha", -1):
        pytest.skip("PEFT allows it")
    with pytest.raises(CheckpointError, match="not a LoRA config"):
        read_settings(write(tmp_path, **{field: value}))


def test_a_field_of_a_later_version_is_ignored_aloud(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path, some_new_feature={"level": 3}, another_new_field=None, task_type="CAUSAL_LM", eva_config={"rho": 2})
    assert read_settings(tmp_path).rank == 4
    said = capsys.readouterr().err
    assert "some_new_feature" in said and "another_new_field" not in said and "eva_config" not in said


def test_tensors_of_another_rank_than_the_pattern_says_are_refused(base: Path, tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    save_file(
        {f"{name}A.weight": torch.ones(4, 32), f"{name}B.weight": torch.ones(32, 4)},
        tmp_path / "adapter_model.safetensors",
    )
    read_adapter(load_weights(base), write(tmp_path))
    with pytest.raises(CheckpointError, match="q_proj does not fit"):
        read_adapter(load_weights(base), write(tmp_path, rank_pattern={"q_proj": 2}))


def test_an_adapter_of_a_network_without_head_has_flat_names(base: Path, tmp_path: Path) -> None:
    a, b = torch.randn(4, 32), torch.randn(32, 4)
    for prefix in ("base_model.model.", "base_model.model.model."):
        name = f"{prefix}layers.0.self_attn.q_proj.lora_"
        save_file({f"{name}A.weight": a, f"{name}B.weight": b}, tmp_path / "adapter_model.safetensors")
        (change,) = read_adapter(load_weights(base), write(tmp_path)).linears.items()
        assert change[0] == "model.layers.0.self_attn.q_proj" and torch.equal(change[1].b, b)


@pytest.mark.parametrize("saved", ["embed_tokens", "lm_head"])
def test_ensure_weight_tying_keeps_the_head_tied(base: Path, tmp_path: Path, saved: str) -> None:
    name = "model.embed_tokens" if saved == "embed_tokens" else "lm_head"
    save_file({f"base_model.model.{name}.weight": torch.randn(96, 32)}, tmp_path / "adapter_model.safetensors")
    model = load_adapter(load_weights(base), write(tmp_path, ensure_weight_tying=True))
    assert model.config.tie_word_embeddings and torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    apart = load_adapter(load_weights(base), write(tmp_path, ensure_weight_tying=False))
    assert not apart.config.tie_word_embeddings
