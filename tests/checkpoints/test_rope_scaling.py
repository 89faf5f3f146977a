"""Which texts a scaling acts on, the longest text of a model, and the limit of dual chunk attention."""

from dataclasses import replace

import pytest
import torch

from qianwen.checkpoints.rope_scaling import dual_chunk_len, length_notes, scaling_fields
from qianwen.model import PRESETS
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError

YARN = RopeState(method="yarn", factor=4, original_len=32768)
LLAMA3 = RopeState(method="llama3", factor=8, original_len=8192)
CHUNKS = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}


@pytest.mark.parametrize(
    ("architecture", "scaling", "claimed", "is_trained", "expected"),
    [
        ("qwen2", YARN, 32768, None, (32768, 131072)),  # Qwen2.5: the file keeps the length of before
        ("qwen3", YARN, 40960, None, (32768, 131072)),  # Qwen3: 32,768 of answer and 8,192 of prompt
        ("qwen3", YARN, 131072, None, (32768, 131072)),
        ("qwen2", YARN, 131072, True, (0, 131072)),
        ("qwen2", YARN, 65536, False, (32768, 65536)),  # written by us, with a length of its own
        ("llama", YARN, 32768, None, (0, 131072)),
        ("llama", YARN, 65536, None, (0, 65536)),
        ("llama", LLAMA3, 131072, None, (0, 131072)),
        ("llama", RopeState(method="linear", factor=4), 16384, None, (0, 16384)),
        ("qwen2", RopeState(method="dynamic_ntk", factor=2, original_len=4096), 4096, None, (4096, 4096)),
    ],
)
def test_where_a_scaling_begins_and_ends(architecture, scaling, claimed, is_trained, expected):
    fields = scaling_fields(scaling, claimed, architecture, is_trained=is_trained)
    config = replace(PRESETS["qwen2.5-0.5b"], **{"train_len": 0} | fields)
    assert (config.scaling_from, config.max_position_embeddings) == expected
    assert config.train_len == (expected[0] or expected[1])


def test_no_scaling_changes_no_field():
    assert scaling_fields(RopeState(), 512, "llama") == {}


def chunked_distances(length: int, chunk_size: int, local_size: int) -> torch.Tensor:
    """The distances of dual chunk attention (An et al. 2024): query position − key position of its three kinds."""
    chunk_len = chunk_size - local_size
    query, key = torch.arange(length)[:, None], torch.arange(length)
    chunks = query // chunk_len - key // chunk_len
    inside, after = query % chunk_len, (query % chunk_len + chunk_len).clamp(max=chunk_size)
    position = torch.where(chunks == 0, inside, torch.where(chunks == 1, after, chunk_size))
    return (position - key % chunk_len).tril()


@pytest.mark.parametrize(("chunk_size", "local_size"), [(64, 8), (64, 0), (64, 40), (48, 16)])
def test_dual_chunks_are_plain_up_to_the_limit(chunk_size, local_size):
    def is_plain(length: int) -> bool:
        plain = (torch.arange(length)[:, None] - torch.arange(length)).tril()
        return torch.equal(chunked_distances(length, chunk_size, local_size), plain)

    limit = dual_chunk_len({"dual_chunk_attention_config": {"chunk_size": chunk_size, "local_size": local_size}})
    assert limit == min(chunk_size, 2 * (chunk_size - local_size))
    assert all(map(is_plain, range(1, limit + 1))) and not is_plain(limit + 2)


def test_dual_chunk_limit_of_the_released_models():
    assert dual_chunk_len({"dual_chunk_attention_config": CHUNKS}) == 262144
    shorter = CHUNKS | {"original_max_position_embeddings": 131072}
    assert dual_chunk_len({"dual_chunk_attention_config": shorter}) == 131072
    assert dual_chunk_len({"dual_chunk_attention_config": None}) is None and dual_chunk_len({}) is None


@pytest.mark.parametrize("chunks", [True, {}, {"chunk_size": 8, "local_size": 8}, {"chunk_size": "8", "local_size": 1}])
def test_damaged_dual_chunks_are_refused(chunks):
    with pytest.raises(ConfigError, match="dual_chunk_attention_config"):
        dual_chunk_len({"dual_chunk_attention_config": chunks})


def test_notes_name_the_lengths():
    plain = PRESETS["qwen2.5-0.5b"]
    assert not list(length_notes(plain, "m", {}))
    scaled = replace(plain, **scaling_fields(YARN, 32768, "qwen2"))
    (note,) = length_notes(scaled, "m", {})
    assert "more than 32,768" in note and "131,072" in note and "yarn" in note and "factor 4" in note
    dynamic = RopeState(method="dynamic_ntk", factor=2, original_len=32768)
    (note,) = length_notes(replace(plain, **scaling_fields(dynamic, 32768, "qwen2")), "m", {})
    assert "more than 32,768 tokens are refused" in note
    long = replace(plain, max_position_embeddings=262144)
    (note,) = length_notes(long, "m", {"dual_chunk_attention_config": CHUNKS})
    assert "dual chunk" in note and "262,144" in note
    trained = replace(plain, rope_scaling=YARN)
    assert not list(length_notes(trained, "m", {}))
