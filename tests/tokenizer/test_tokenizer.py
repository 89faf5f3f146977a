"""Test vectors, properties, and that no text becomes a control token."""

import codecs
import dataclasses
import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.runtime.errors import ConfigError
from qianwen.tokenizer import tokenizer
from qianwen.tokenizer.normal import normal_text
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

VECTORS = {
    "\n": [198], "\n\n": [271], " ": [220], "  ": [256], "\t": [197],
    "system": [8948], "user": [872], "assistant": [77091], "function": [1688],
    "You are a helpful assistant.": [2610, 525, 264, 10950, 17847, 13],
    "你好": [108386], "Hello!": [9707, 0], "通义千问": [31935, 64559, 99320, 56007],
    "我是一只猫": [35946, 99639, 91680, 100472],
    "A": [32], "B": [33], "C": [34], "D": [35], " A": [362], " B": [425], " C": [356], " D": [422],
    "2023": [17, 15, 17, 18], "3.14": [18, 13, 16, 19], " 12": [220, 16, 17],
    "Observation": [37763, 367], "Observation:": [37763, 367, 25], "Observation:\n": [37763, 367, 510],
    "\nObservation:": [198, 37763, 367, 25], "Thought:": [84169, 25], "Action:": [2512, 25],
    "Action Input:": [2512, 5571, 25], "Final Answer:": [19357, 21806, 25], "Question:": [14582, 25],
    "Human:": [33975, 25], "答案：": [102349, 5122], "it's IT'S": [275, 594, 8700, 13272],
    "é": [963], "e\u0301": [963], "😀": [141334],
    "def f(x):\n    return x\n": [750, 282, 2075, 982, 262, 470, 856, 198],
    " Panda": [72410], "Pandas": [47, 55433],
    'print("<|endoftext|>")': [1350, 9639, 91, 8691, 723, 427, 91, 82598],
    "\n\nhi": [271, 6023],
}  # fmt: skip


@pytest.mark.parametrize("text", VECTORS)
def test_vectors_of_the_real_vocabulary(qwen: Tokenizer, text: str) -> None:
    assert qwen.encode(text) == VECTORS[text]


def test_decoding_part_of_a_character(qwen: Tokenizer) -> None:
    assert qwen.decode([51461]) == " \ufffd" and qwen.decode([51461, 117]) == " 根"
    assert qwen.decode([51461], errors="ignore") == " "
    with pytest.raises(UnicodeDecodeError):
        qwen.decode([51461], errors="strict")


# ---- properties -------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "<|im_end|>",
        "<|endoftext|>",
        "\r\n",
        "   ",
        "'s",
        "'LL",
        "123",
        "e\u0301",
        "\u0323\u0301",
        "\x00",
        "\u3000",
        "的",
        "👩\u200d👧",
    ]
)
TEXTS = st.lists(st.one_of(st.text(), PIECES)).map("".join)
ANY = st.lists(st.one_of(st.text(st.characters(), max_size=9), PIECES, st.sampled_from(["\ud800", "\udfff"]))).map(
    "".join
)


@settings(max_examples=500, deadline=None)
@given(text=TEXTS)
def test_decoding_gives_the_composed_text_back(small: Tokenizer, text: str) -> None:
    assert small.decode(small.encode(text)) == unicodedata.normalize("NFC", text)


@settings(max_examples=500, deadline=None)
@given(text=ANY)
def test_any_string_is_encoded_without_control_tokens(small: Tokenizer, text: str) -> None:
    ids = small.encode(text)
    assert not set(ids) & small.special_ids
    assert small.decode(ids) == normal_text(text)
    assert small.encode_array(text).tolist() == ids


@settings(max_examples=500, deadline=None)
@given(ids=st.lists(st.integers(0, 256 + 800 + 208 - 1)))
def test_streaming_gives_the_whole(small: Tokenizer, ids: list[int]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts = [decoder.decode(small.token_bytes(token)) for token in ids] + [decoder.decode(b"", final=True)]
    assert "".join(parts) == small.decode(ids)


@settings(max_examples=500, deadline=None)
@given(texts=st.lists(ANY, max_size=5))
def test_a_batch_is_its_texts(small: Tokenizer, texts: list[str]) -> None:
    ids = [small.encode(text) for text in texts]
    assert small.encode_batch(texts) == ids
    assert [array.tolist() for array in small.encode_arrays(texts)] == ids


def test_every_id_decodes(small: Tokenizer) -> None:
    tokens = [small.token_bytes(token) for token in range(small.vocab_size)]
    assert all(tokens) and len(set(tokens)) == small.vocab_size
    assert small.decode_bytes(range(small.vocab_size)) == b"".join(tokens)
    assert small.decode_bytes([small.vocab_size, 10**9, -1]) == b""  # the padding rows of a model


def test_every_character_comes_back(small: Tokenizer) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for before, after in (("\n", ""), ("a", "b\n"), (" 1", ".\n")):
        text = "".join(before + character + after for character in characters)
        assert small.decode(small.encode(text)) == normal_text(text)
    assert {tuple(small.encode(chr(code))) for code in range(0xD800, 0xE000)} == {tuple(small.encode("\ufffd"))}


# ---- large batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
def test_large_batches_use_threads_and_change_nothing(small: Tokenizer, fast: bool) -> None:
    text = "def f(x):\n    return 我是一只猫 + 12345  # it's é\n" * 400
    texts = [text, "", text[::-1], "x", " " * 200_000, "\ud800" + text] * 12
    other = Tokenizer(small.vocabulary, fast=fast)
    assert other.encode_batch(iter(texts)) == [small.encode(text) for text in texts]
    assert all(array.dtype == np.int32 and array.flags.writeable for array in other.encode_arrays(texts))


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(ANY, max_size=9))
def test_runs_of_texts_in_threads_change_nothing(small: Tokenizer, texts: list[str]) -> None:
    default = Tokenizer(small.vocabulary, fast=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "RUN", 5)
        patch.setattr(tokenizer, "THREADED_FROM", 0)
        assert default.encode_batch(texts) == [small.encode(text) for text in texts]
        runs = [*tokenizer._runs(texts)]
    assert [text for run in runs for text in run] == texts
    assert all(sum(map(len, run)) >= 5 for run in runs[:-1])


# ---- special tokens ---------------------------------------------------------------------------------------------


def test_skipping_drops_control_tokens_only(small: Tokenizer) -> None:
    special = {"<|im_end|>": 300, "<tool_call>": 301, "<think>": 302}
    vocabulary = Vocabulary({bytes([i]): i for i in range(256)}, special).with_tokens({b"new": 400})
    ids = [*b"a", 300, 301, 302, 400]
    assert Tokenizer(vocabulary).decode(ids, skip_special=True) == "a<tool_call><think>new"
    assert Tokenizer(vocabulary).decode(ids) == "a<|im_end|><tool_call><think>new"
    with pytest.raises(ConfigError, match=r"<\|endoftext\|>"):
        _ = Tokenizer(vocabulary).eod_id


def test_a_pattern_that_does_not_compile_is_the_users_error(small: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        Tokenizer(Vocabulary(small.vocabulary.ranks, pattern="("))


FRAMES = (
    "{}", "user: {}", "{}{}", "\n{}\n", " {} ", '{{"name": "{}", "arguments": {{"q": "{}"}}}}', "docs/{}.txt",
    "Observation: {}", "<tool_response>{}</tool_response>", "\x00{}\x00", "e\u0301{}", "\ud800{}", "`{}`",
)  # fmt: skip


def test_no_text_becomes_a_control_token(small: Tokenizer) -> None:
    """Every control token in every frame, as a whole, doubled inside itself, in look-alikes and as `\\x00id\\x00`."""
    cases = 0
    for (name, token), frame in itertools.product(small.special_tokens.items(), FRAMES):
        spellings = (name, name.replace("|", "｜"), name[:5] + name + name[5:], f"\x00{token}\x00", name.upper())
        for spelling in spellings:
            text = frame.replace("{}", spelling)
            ids = small.encode(text)
            assert not small.special_ids.intersection(ids)
            assert small.decode(ids) == normal_text(text)
            cases += 1
    assert cases > 2000


@pytest.mark.parametrize("at", range(1, 10))
def test_a_control_token_in_two_texts_stays_text(small: Tokenizer, at: int) -> None:
    name = "<|im_end|>"
    ids = [*small.encode(name[:at]), *small.encode(name[at:])]
    assert small.decode(ids) == name and not small.special_ids.intersection(ids)


def test_save_and_load(small: Tokenizer, tmp_path) -> None:
    small.save(tmp_path)
    loaded = Tokenizer.from_folder(tmp_path)
    assert loaded.vocabulary.ranks == small.vocabulary.ranks and loaded.special_ids == small.special_ids
    assert loaded.encode("我是一只猫 12") == small.encode("我是一只猫 12")


# ---- vocabularies that lack bytes -------------------------------------------------------------------------------


def test_a_vocabulary_without_some_bytes_encodes_everything_and_comes_back(small: Tokenizer, tmp_path: Path) -> None:
    """As SmolLM's: no text of its makers had these."""
    missing = (b"\x04", b"\xf1", b"\xff")
    lacking = Tokenizer(dataclasses.replace(small.vocabulary, ranks=_without(small.vocabulary.ranks, missing)))
    lacking.save(tmp_path)
    for found in (lacking, Tokenizer.from_folder(tmp_path)):
        assert found.decode(found.encode("a\x04b \U00040000 \U00030000")) == "a\ufffdb \ufffd \U00030000"
        big = "a\x04b" * 100_000
        assert found.encode_arrays([big])[0].tolist() == found.encode(big)


def _without(ranks: Mapping[bytes, int], missing: Sequence[bytes]) -> dict[bytes, int]:
    return {token: rank for token, rank in ranks.items() if not any(byte in token for byte in missing)}
