"""Every export format: the files, the comparison with the source, and the detection of wrong copies."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qianwen.chat import Message, render
from qianwen.checkpoints import export as export_module
from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.export import GgufOptions, export_model
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.gguf.tensor_types import FILE_TYPES, Rounding
from qianwen.checkpoints.hf_folder import chat_template_fields, write_folder
from qianwen.checkpoints.load import load_model, open_model
from qianwen.checkpoints.model_card import Origin
from qianwen.checkpoints.parity import compare, next_token_logprobs
from qianwen.cli.export import export
from qianwen.model.config import QwenConfig
from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.linears.lora import LoraConfig, adapted, attach
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Qwen
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.gptq_model import quantize_model
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import atomic_folder, verify_folder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

CONFIG = QwenConfig(
    vocab_size=520, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=512, train_len=256, use_dynamic_ntk=True, use_logn_attn=True,
)  # fmt: skip


def tokenizer(*tags: str) -> Tokenizer:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"th": 256, b"the": 257}
    special = qwen_special_tokens(258)
    return Tokenizer(Vocabulary(ranks, special | {tag: 500 + i for i, tag in enumerate(tags)}))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qwen:
    """The model in `source/` of a temporary folder, which is also the current folder."""
    monkeypatch.chdir(tmp_path)
    model = Qwen(CONFIG).init_weights(seed=1).eval()
    for parameter in model.parameters():
        parameter.data *= 3  # so that distributions are not all alike
    with atomic_folder("source") as inside:
        write_folder(model, tokenizer(), inside, chat=True, generation={"top_p": 0.5})
    return model


def same_weights(left: Qwen, right: Qwen) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def read(path: str) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


# ---- formats ----------------------------------------------------------------------------------------------------


def test_an_hf_export_is_bit_equal_and_complete(source: Qwen) -> None:
    done = export_model("source", "out", origin=Origin("source", license="Apache-2.0", data="Three books."))
    assert done.parity.top1_agreement == 1 and done.parity.max_kl == 0 and done.parity.num_prompts == 64
    loaded = load_model("out", dtype=torch.float32)
    assert same_weights(loaded.model, source) and loaded.chat and loaded.config == CONFIG
    assert done.command == "vllm serve out --served-model-name source --max-model-len 256"
    assert set(verify_folder("out")["files"]) == {
        *("README.md", "config.json", "generation_config.json", "merges.txt", "model.safetensors"),
        *("qwen.tiktoken", "tokenizer.json", "tokenizer_config.json", "vocab.json"),
    }
    card = Path("out/README.md").read_text()
    for part in (
        "license: apache-2.0",
        "Three books.",
        "100.0% over 64 prompts",
        done.command,
        "256 tokens",
        "test it for your",
    ):
        assert part in card
    assert read("out/generation_config.json") == {"top_p": 0.5, "eos_token_id": [260, 258], "pad_token_id": 258}
    assert read("out/tokenizer_config.json")["eos_token"] == "<|im_end|>"


YARN = RopeState(method="yarn", factor=4, original_len=128)
SCALED = replace(CONFIG, use_dynamic_ntk=False, use_logn_attn=False, rope_scaling=YARN, scaling_from=128, train_len=128)


def test_a_scaled_model_keeps_its_scaling(source: Qwen, capsys: pytest.CaptureFixture[str]) -> None:
    scaled = Qwen(SCALED).init_weights(seed=1).eval()
    with atomic_folder("scaled") as inside:
        write_folder(scaled, tokenizer(), inside, chat=True)
    done = export_model("scaled", "out")
    assert done.command.endswith("--max-model-len 512") and not done.own_methods
    (copy,) = export_model("out", "gguf", "gguf", gguf=GgufOptions("F32")).folder.glob("*.gguf")
    for path in ("out", str(copy)):
        capsys.readouterr()
        loaded = load_model(path, dtype=torch.float32)
        assert loaded.config == SCALED and same_weights(loaded.model, scaled)
        notice = " ".join(capsys.readouterr().err.split())
        assert "texts of more than 128 tokens are read with yarn (factor 4, up to 512 tokens)" in notice
    with pytest.raises(ConfigError, match="layout of Qwen v1 has no rope scaling"):
        export_model("scaled", "v1", "qwen-v1")


def test_the_command_names_methods_that_other_programs_ignore(source: Qwen, capsys: pytest.CaptureFixture[str]) -> None:
    export(["source", "--to", "out"])
    assert "Other programs ignore dynamic NTK, LogN scaling of this model" in " ".join(capsys.readouterr().out.split())


def test_v1_and_back_is_bit_equal(source: Qwen) -> None:
    done = export_model("source", "v1", "qwen-v1")
    assert done.parity.max_kl == 0 and done.command == "qianwen chat v1"
    config, settings = read("v1/config.json"), read("v1/generation_config.json")
    assert config["architectures"] == ["QWenLMHeadModel"] and config["intermediate_size"] == 192
    assert config["seq_length"] == 256 and config["use_dynamic_ntk"] and config["tokenizer_class"] == "QWenTokenizer"
    assert (
        settings["chat_format"] == "chatml" and settings["eos_token_id"] == 258 and settings["max_window_size"] == 6144
    )
    assert load_model("v1").chat
    export_model("v1", "back")
    loaded = load_model("back", dtype=torch.float32)
    assert same_weights(loaded.model, source) and loaded.config == CONFIG and loaded.chat
    assert "chat_format" not in read("back/generation_config.json")


LEAST = {"F32": 1.0, "F16": 0.95, "BF16": 0.9, "Q8_0": 0.9, "Q4_K_M": 0.5, "Q4_0": 0.4}


@pytest.mark.parametrize("type", FILE_TYPES)
def test_gguf_in_each_type(source: Qwen, type: str) -> None:
    least = LEAST[type]
    done = export_model("source", "out", "gguf", gguf=GgufOptions(type), min_agreement=0.2)  # type: ignore[arg-type]
    file = Path("out") / f"source-{type.lower()}.gguf"
    assert done.parity.top1_agreement >= least and done.command == f"llama-cli -m {file}"
    assert (done.parity.max_kl == 0) == (type == "F32")
    loaded = load_model(str(file), dtype=torch.float32)
    assert loaded.chat and loaded.tokenizer.vocabulary == tokenizer().vocabulary
    assert loaded.config == replace(CONFIG, max_position_embeddings=256, use_dynamic_ntk=False, use_logn_attn=False)
    card = (file.parent / "README.md").read_text()
    assert f"GGUF {type}" in card and f"top-1 agreement {done.parity.top1_agreement:.1%}" in card
    assert ("quantised to" in card) == type.startswith("Q") and "conversion is correct" not in card
    assert done.num_bytes == file.stat().st_size


def test_a_gguf_in_parts(source: Qwen) -> None:
    done = export_model("source", "out", "gguf", gguf=GgufOptions("F32", max_bytes=20_000))
    names = sorted(path.name for path in Path("out").glob("*.gguf"))
    assert len(names) > 1 and names[0] == f"source-f32-00001-of-{len(names):05}.gguf"
    assert done.parity.max_kl == 0 and done.command == f"llama-cli -m out/{names[0]}"
    loaded = load_model("out", dtype=torch.float32)
    assert same_weights(loaded.model, source)
    assert load_model(f"out/{names[1]}").name == "source-f32"
    with pytest.raises(ConfigError, match="only format gguf can be split into parts, not ollama"):
        export_model("source", "out", "ollama", gguf=GgufOptions(max_bytes=20_000))


def test_ollama_has_a_modelfile(source: Qwen) -> None:
    done = export_model("source", "out", "ollama", gguf=GgufOptions("Q8_0"))
    assert done.command == "ollama create source -f out/Modelfile"
    text = Path("out/Modelfile").read_text()
    assert "FROM ./source-q8_0.gguf" in text and "PARAMETER num_ctx 256" in text
    assert '{{ range .Messages }}{{ if ne .Role "system" }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n' in text


def test_a_gguf_becomes_a_folder_in_bfloat16(source: Qwen) -> None:
    export_model("source", "g", "gguf", gguf=GgufOptions("F32"))
    done = export_model("g", "out")
    assert read("out/config.json")["torch_dtype"] == "bfloat16" and done.parity.mean_kl < 1e-3
    exact = export_model("g", "out", dtype=torch.float32)
    assert read("out/config.json")["torch_dtype"] == "float32" and exact.parity.max_kl == 0
    assert same_weights(load_model("out", dtype=torch.float32).model, source)


def test_a_failed_export_leaves_nothing(source: Qwen, monkeypatch: pytest.MonkeyPatch) -> None:
    export_model("source", "out")
    before = Path("out/README.md").read_text()
    monkeypatch.setattr(export_module, "_check_agreement", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_model("source", "out", "gguf")
    assert Path("out/README.md").read_text() == before and {p.name for p in Path().iterdir()} == {"source", "out"}


def test_a_copy_that_loses_too_much_is_refused_and_leaves_nothing(source: Qwen) -> None:
    export_model("source", "out")
    before = Path("out/README.md").read_text()
    rough = GgufOptions("Q4_0")
    message = r"GGUF Q4_0: the copy has the most likely next token .* after only .*% of 64 prompts .* limit is 99%"
    with pytest.raises(ConfigError, match=message):
        export_model("source", "out", "gguf", gguf=rough, min_agreement=0.99)
    assert Path("out/README.md").read_text() == before and not list(Path("out").glob("*.gguf"))
    assert {path.name for path in Path().iterdir()} == {"source", "out"}
    done = export_model("source", "out", "gguf", gguf=rough, min_agreement=0)
    changed = round((1 - done.parity.top1_agreement) * 64)
    assert changed > 0 and f"another one after {changed} of the 64 prompts" in Path("out/README.md").read_text()
    with pytest.raises(ConfigError, match="min_agreement = 1.5 must be between 0 and 1"):
        export_model("source", "out", min_agreement=1.5)


def test_a_copy_that_is_not_finite_is_refused(source: Qwen) -> None:
    source.model.norm.weight.data *= 1e5  # beyond the largest float16
    source.lm_head.weight.data *= 1e-5
    with atomic_folder("large") as inside:
        write_folder(source, tokenizer(), inside, chat=True)
    with pytest.raises(ConfigError, match="the copy has the most likely next token"):
        export_model("large", "out", dtype=torch.float16, min_agreement=0.01)
    assert not Path("out").exists()


def test_importance_and_single_types_reach_the_file(source: Qwen) -> None:
    """What `choose` says of a parameter decides how its tensor is rounded; it sees the merged network."""
    name = "model.layers.1.mlp.up_proj.weight"
    importance = torch.ones(64)
    importance[:8] = 1e3

    def choose(loaded: object, type: str) -> Rounding:
        return Rounding({name: importance}, {"model.layers.0.mlp.up_proj.weight": "Q8_0"})

    files = {}
    for folder, options in (("plain", GgufOptions("Q4_0")), ("chosen", GgufOptions("Q4_0", choose=choose))):
        export_model("source", folder, "gguf", gguf=options, min_agreement=0)
        files[folder] = GgufModel(f"{folder}/source-q4_0.gguf").tensors
    assert files["chosen"]["model.layers.0.mlp.up_proj.weight"].type == "Q8_0"
    assert files["plain"]["model.layers.0.mlp.up_proj.weight"].type == "Q4_0"
    exact = source.get_parameter(name)[:, :8]
    plain, chosen = ((files[each][name].dequantize()[:, :8] - exact).norm() for each in ("plain", "chosen"))
    assert chosen < 0.8 * plain


@pytest.mark.parametrize("type", FILE_TYPES)
def test_two_roundings_of_one_table_are_written_once(source: Qwen, type: str) -> None:
    """Only where the table is rounded again; the other types are faithful copies."""
    head = source.lm_head.weight
    source.model.embed_tokens.weight.data = head + 0.04 * head.norm() / head.numel() ** 0.5 * torch.randn(head.shape)
    with atomic_folder("twice") as inside:
        write_folder(source, tokenizer(), inside, chat=True)
    export_model("twice", "out", "gguf", gguf=GgufOptions(type), min_agreement=0)  # type: ignore[arg-type]
    (file,) = Path("out").glob("*.gguf")
    assert ("lm_head.weight" in GgufModel(file).tensors) == (type not in ("Q4_0", "Q4_K_M"))
    assert load_model("out", dtype=torch.float32).config.tie_word_embeddings == (type in ("Q4_0", "Q4_K_M"))


def test_a_config_that_a_format_cannot_express_is_refused(source: Qwen) -> None:
    shared = Qwen(replace(CONFIG, num_key_value_heads=1)).init_weights(seed=1)
    with atomic_folder("shared") as inside:
        write_folder(shared, tokenizer(), inside, chat=False)
    with pytest.raises(ConfigError, match="num_key_value_heads"):
        export_model("shared", "out", "qwen-v1")
    assert not Path("out").exists()


def test_the_command(source: Qwen, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(["source", "--to", "out", "--format", "gguf", "--type", "F32"]) == 0
    said = capsys.readouterr().out
    assert "GB, 3" in said and "bits per weight" in said
    assert "top-1 agreement 100.0% over 64 prompts" in said and "llama-cli -m out/source-f32.gguf" in said


# ---- parity -----------------------------------------------------------------------------------------------------


def test_parity_detects_a_swapped_gate_and_a_lost_bias(source: Qwen) -> None:
    expected = next_token_logprobs(source, tokenizer())
    assert expected.shape == (64, 520) and torch.allclose(expected.exp().sum(-1), torch.ones(64))
    assert compare(expected, expected).max_kl == 0
    swapped = load_model("source", dtype=torch.float32).model
    for layer in swapped.model.layers:
        layer.mlp.gate_proj, layer.mlp.up_proj = layer.mlp.up_proj, layer.mlp.gate_proj
    assert compare(expected, next_token_logprobs(swapped, tokenizer())).mean_kl > 1e-4
    norms = load_model("source", dtype=torch.float32).model
    norms.model.norm.weight.data.fill_(1)
    assert compare(expected, next_token_logprobs(norms, tokenizer())).mean_kl > 1e-2


def test_packed_prompts_do_not_see_each_other(source: Qwen) -> None:
    """Packed passages must give what a passage alone gives."""
    from qianwen.checkpoints.parity import CUTS, PASSAGES

    ids = tokenizer().encode(PASSAGES[5])
    alone = source.logits(source(torch.tensor([ids])))[0, len(ids) // 2 - 1].log_softmax(-1)
    torch.testing.assert_close(next_token_logprobs(source, tokenizer())[5 * CUTS + 1], alone.detach())


# ---- chat template ----------------------------------------------------------------------------------------------

CHATS = [
    [Message("user", "你好")],
    [Message("system", ""), Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bye")],
    [Message("system", "Be brief."), Message("user", "one\ntwo"), Message("assistant", "three")],
]


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("ask", [True, False])
def test_the_template_gives_the_text_of_render(chat: list[Message], ask: bool) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    template = chat_template_fields(tokenizer())["chat_template"]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    messages = [{"role": message.role, "content": message.content} for message in chat]
    text = environment.from_string(template).render(messages=messages, add_generation_prompt=ask)
    assert text == tokenizer().decode(render(chat, tokenizer(), add_generation_prompt=ask).ids)


def test_no_template_without_chatml_tokens() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    assert chat_template_fields(Tokenizer(Vocabulary(ranks, {"<|endoftext|>": 256}))) == {}


def test_an_adapter_is_merged_before_export(source: Qwen) -> None:
    model = attach(load_model("source", dtype=torch.float32).model, LoraConfig(rank=4))
    for _, lora in adapted(model):
        torch.nn.init.normal_(lora.lora_B, std=0.1)
    Path("adapter").mkdir()
    write_adapter(model, Path("adapter"), LoraConfig(rank=4), "source")
    done = export_model("adapter", "merged")
    assert done.parity.top1_agreement == 1 and done.parity.max_kl < 1e-5
    assert "An adapter was merged into its base model" in Path("merged/README.md").read_text()
    merged = load_model("merged", dtype=torch.float32)
    assert not any(adapted(merged.model)) and merged.chat
    expected, got = (next_token_logprobs(one.eval(), tokenizer()) for one in (model, merged.model))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_that_cannot_be_merged_is_not_exported(source: Qwen) -> None:
    model = attach(load_model("source", dtype=torch.float32).model, LoraConfig(rank=4))
    model.model.layers[0].mlp.up_proj.lora_B.data.fill_(torch.inf)
    Path("adapter").mkdir()
    write_adapter(model, Path("adapter"), LoraConfig(rank=4), "source")
    with pytest.raises(CheckpointError, match="merging changes the logits"):
        export_model("adapter", "merged")
    assert not Path("merged").exists()


def test_an_adapter_over_gptq_codes_is_merged_into_floats(source: Qwen) -> None:
    quantize_model(open_model("source"), "int4", GptqConfig(group_size=32))
    model = attach(load_model("int4", bits="nf4", dtype=torch.float32).model, LoraConfig(rank=4))
    for _, lora in adapted(model):
        assert isinstance(lora.base, GptqLinear)
        torch.nn.init.normal_(lora.lora_B, std=0.1)
    Path("adapter").mkdir()
    write_adapter(model, Path("adapter"), LoraConfig(rank=4), "int4")
    done = export_model("adapter", "merged", dtype=torch.float32)
    assert done.parity.top1_agreement == 1 and done.parity.max_kl < 1e-5
    expected, got = (
        next_token_logprobs(one.eval(), tokenizer()) for one in (model, load_model("merged", dtype=torch.float32).model)
    )
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
