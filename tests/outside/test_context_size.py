"""The context is what fits: a file may claim any length, and a request for a length is kept or refused."""

import json
from pathlib import Path

import pytest

from qianwen.cli import main
from qianwen.engine import llm_engine
from qianwen.engine.context_size import context_size
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime import memory_limits
from qianwen.runtime.errors import ConfigError
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

KB, GB = 1000, 1e9


def size(requested: int = 0, limit: int = 4096, num_seqs: int = 4, free: float = 100e6):
    return context_size(requested, limit, num_seqs, cache_bytes=lambda tokens: tokens * KB, free=free)


@pytest.mark.parametrize("limit", [1, 512, 4096, 32768, 100_000])
def test_what_fits_is_taken_as_a_whole_and_in_silence(limit: int) -> None:
    found = size(limit=limit)
    assert (found.max_model_len, found.note) == (limit, "")
    assert found.cached_tokens == max(limit, min(limit, 2048) * 4)


@pytest.mark.parametrize("limit", [100_001, 131_072, 1_010_000, 10**9, 10**15, 10**40])
def test_a_claim_that_does_not_fit_is_shortened_aloud(limit: int) -> None:
    found = size(limit=limit)
    assert found.max_model_len == found.cached_tokens == 100_000
    assert "100,000 tokens" in found.note and f"{limit:,}" in found.note


def test_room_for_many_texts_is_given_up_before_length() -> None:
    found = size(limit=4096, num_seqs=64)
    assert (found.max_model_len, found.cached_tokens, found.note) == (4096, 100_000, "")


@pytest.mark.parametrize("requested", [1, 700, 100_000])
def test_a_requested_length_that_fits_is_kept(requested: int) -> None:
    assert size(requested, limit=512).max_model_len == requested


@pytest.mark.parametrize("requested", [100_001, 200_000, 1_010_000])
def test_a_requested_length_that_does_not_fit_names_one_that_does(requested: int) -> None:
    with pytest.raises(ConfigError, match=r"--context 100000 or less") as error:
        size(requested)
    assert f"{requested:,}" in str(error.value) and "0.1 GB" in str(error.value)


@pytest.mark.parametrize("requested", [-1, -4096, 1 << 41])
def test_a_length_without_meaning_is_refused(requested: int) -> None:
    with pytest.raises(ConfigError, match="not possible"):
        size(requested)


@pytest.mark.parametrize("free", [0.0, 999.0])
def test_no_memory_at_all_is_an_error(free: float) -> None:
    with pytest.raises(ConfigError, match="0 tokens fit"):
        size(free=free)


# ---- engines and commands ---------------------------------------------------------------------------------------


def tokenizer() -> Tokenizer:
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(Vocabulary(ranks, {name: 256 + number for number, name in enumerate(names)}))


def network(length: int, **fields: object) -> Qwen:
    config = QwenConfig(
        vocab_size=272, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2,
        max_position_embeddings=length, **fields,
    )  # fmt: skip
    return Qwen(config).init_weights(1).eval()


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_engine, "free_memory_bytes", lambda device: 10_000_000)


@pytest.mark.parametrize("kind", ["auto", "bfloat16", "int8"])
@pytest.mark.parametrize("windows", [(), (64, 64, 64, 0), (64, 64, 64, 64)])
@pytest.mark.parametrize("length", [1_010_000, 10**12])
def test_the_cache_of_an_engine_stays_within_its_share(memory: None, kind, windows: tuple, length: int) -> None:
    engine = LLMEngine(network(length, layer_windows=windows), tokenizer(), EngineConfig(kv_cache_dtype=kind))
    size = engine.runner.cache.num_bytes
    is_windowed = windows and 0 not in windows  # then the cache does not grow with the text
    assert size <= 8_100_000 and (is_windowed or size > 7_500_000)
    assert engine.max_model_len <= length and bool(engine.context_note) == (engine.max_model_len < length)


def test_an_engine_reads_up_to_the_end_of_the_context_that_fits(memory: None) -> None:
    llm = LLM(network(1_010_000), tokenizer())
    prompt = [65] * (llm.engine.max_model_len - 1)
    answer = llm.generate([prompt[:200]])[0]
    assert answer.outputs[0].finish_reason
    with pytest.raises(ValueError, match="the context is"):
        llm.generate([[65] * llm.engine.max_model_len])


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    from qianwen.checkpoints.hf_folder import write_folder

    write_folder(network(512), tokenizer(), tmp_path, chat=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1_010_000}))
    return tmp_path


def test_a_million_tokens_are_shortened_in_one_line(huge: Path, memory: None, capsys: pytest.CaptureFixture) -> None:
    assert main(["generate", str(huge), "--prompt", "a", "--max-tokens", "2"]) == 0
    said = capsys.readouterr()
    assert "context: " in said.out + said.err and "1,010,000" in said.out + said.err and "Traceback" not in said.err


@pytest.mark.parametrize("command", [["generate", "--prompt", "a"], ["chat"]])
def test_a_context_that_does_not_fit_says_what_would(
    command: list[str], huge: Path, memory: None, capsys: pytest.CaptureFixture
) -> None:
    name, *rest = command
    assert main([name, str(huge), *rest, "--context", "500000"]) == 1
    assert "use --context " in capsys.readouterr().err


# ---- limits below the machine's memory ----------------------------------------------------------------------------


def group(root: Path, path: str, files: dict[str, str]) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("line", "groups", "room"),
    [
        ("0::/", {"": {"memory.max": "1000", "memory.current": "400", "memory.stat": "inactive_file 100"}}, [700]),
        (
            "0::/a/b",
            {
                "a/b": {"memory.max": "max", "memory.current": "9", "memory.stat": ""},
                "a": {"memory.max": "500", "memory.current": "100", "memory.stat": ""},
            },
            [400],
        ),
        ("0::/", {"": {"memory.max": "max", "memory.current": "9", "memory.stat": ""}}, []),
        (
            "4:memory:/d",
            {
                "memory/d": {
                    "memory.limit_in_bytes": "800",
                    "memory.usage_in_bytes": "300",
                    "memory.stat": "inactive_file 0",
                }
            },
            [500],
        ),
        ("1:cpu:/x", {}, []),
        ("0::/", {"": {"memory.max": "1000"}}, []),
        ("0::/", {"": {"memory.max": "odd", "memory.current": "x", "memory.stat": "y"}}, []),
    ],
)
def test_limits_of_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, groups: dict, room: list
) -> None:
    for path, files in groups.items():
        group(tmp_path / "groups", path, files)
    (tmp_path / "own").write_text(line + "\n")
    monkeypatch.setattr(memory_limits, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory_limits, "OWN_GROUP", tmp_path / "own")
    assert list(memory_limits._group_room()) == room


def test_a_limit_of_the_address_space(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(memory_limits, "OWN_GROUP", Path("nowhere"))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 62, 1 << 62))
    (room,) = memory_limits.limited_bytes()
    assert 0 < room < 1 << 62
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert memory_limits.limited_bytes() == []
