import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from qianwen.tokenizer import fast
from qianwen.tokenizer.extend import extend_vocabulary
from qianwen.tokenizer.fast import CHECK_TEXT, fast_encoder
from qianwen.tokenizer.normal import normal_text
from qianwen.tokenizer.patterns import GPT2_PATTERN
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary


def test_the_ids_are_tiktokens(small: Tokenizer) -> None:
    pytest.importorskip("gigatoken", reason="the extra [fast] is not installed")
    encode = fast_encoder(small.vocabulary, small._encoding.encode_ordinary)
    assert encode is not None
    text = normal_text(CHECK_TEXT * 50)
    ids, none, again, special = encode([text, "", text, "".join(small.special_tokens)])
    assert ids.dtype == np.int32 and ids.tolist() == again.tolist() == small.encode(text) and not len(none)
    assert not set(special.tolist()) & small.special_ids
    assert encode([]) == []


def test_ids_with_gaps_are_tiktokens_too(small: Tokenizer) -> None:
    pytest.importorskip("gigatoken", reason="the extra [fast] is not installed")
    grown = extend_vocabulary(small.vocabulary, {"通义": 3, "zzyzx": 2}).vocabulary
    reference = Tokenizer(grown, fast=False)
    encode = fast_encoder(grown, reference._encoding.encode_ordinary)
    assert encode is not None
    ids = encode(["zzyzx 通义 zzyzx"])[0].tolist()
    assert ids == reference.encode("zzyzx 通义 zzyzx") and max(ids) >= small.vocab_size


def test_a_letter_that_only_one_of_them_knows_is_left_to_tiktoken(small: Tokenizer) -> None:
    pytest.importorskip("gigatoken", reason="the extra [fast] is not installed")
    encode = fast_encoder(small.vocabulary, small._encoding.encode_ordinary)
    disputed = sorted(fast.disputed_characters())
    texts = [text for at in disputed[:: len(disputed) // 50 + 1] for text in (f"it{at}'s", "plain", f"{at}{at} 1{at}")]
    assert encode is not None
    assert [ids.tolist() for ids in encode(texts)] == [small.encode(text) for text in texts]


def test_a_character_is_found_in_whatever_tokens_spell_it() -> None:
    whole, other = "\U000323b0".encode(), "\U000323b1".encode()
    tokens = [
        b"a",
        b"a" + whole[:2],
        whole[2:] + b"b",
        whole[:3],
        whole[3:],
        b"b" + whole + b"c",
        other,
        whole[:1],
        whole[1:],
    ]
    find = fast._Tokens(frozenset("\U000323b0"), tokens).places
    for ranks, places in (
        ([0, 1, 2, 0], [1]),
        ([3, 4], [0]),
        ([0, 5], [1]),
        ([7, 8], [0]),
        ([1, 0, 3, 2, 7], []),
        ([6, 4, 8], []),
        ([], []),
    ):
        assert find(np.array(ranks, np.int64)).tolist() == places


def test_every_character_has_tiktokens_ids(small: Tokenizer) -> None:
    pytest.importorskip("gigatoken", reason="the extra [fast] is not installed")
    encode = fast_encoder(small.vocabulary, small._encoding.encode_ordinary)
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = [
        "".join(f"a{at}'s{at} 1{at}!" for at in characters[start : start + 512])
        for start in range(0, len(characters), 512)
    ]
    assert encode is not None
    assert [ids.tolist() for ids in encode(texts)] == [small._encoding.encode_ordinary(text) for text in texts]


def _stand_in(monkeypatch: pytest.MonkeyPatch, encode) -> None:
    backend = SimpleNamespace(from_tiktoken=lambda *_: SimpleNamespace(encode_batch=encode))
    monkeypatch.setitem(sys.modules, "gigatoken", SimpleNamespace(Tokenizer=backend))
    monkeypatch.setattr(fast, "disputed_characters", frozenset)


def test_an_encoder_that_differs_is_not_used(
    small: Tokenizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    awkward = pytest.importorskip("awkward", reason="the extra [fast] is not installed")
    _stand_in(monkeypatch, lambda texts: awkward.Array([list(text.encode()) for text in texts]))
    other = Tokenizer(small.vocabulary)
    text = CHECK_TEXT * 2000
    assert other.encode_batch([text]) == [small.encode(text)]
    assert other._fast is None and "differs from tiktoken" in caplog.text


def test_an_encoder_that_refuses_is_not_used(
    small: Tokenizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("awkward", reason="the extra [fast] is not installed")

    def refuse(*_):
        raise ValueError("no such scheme")

    monkeypatch.setitem(sys.modules, "gigatoken", SimpleNamespace(Tokenizer=SimpleNamespace(from_tiktoken=refuse)))
    assert fast_encoder(small.vocabulary, small.encode) is None
    assert "no such scheme" in caplog.text


def test_without_it_or_with_another_pattern_tiktoken_encodes(
    small: Tokenizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pytest.importorskip("awkward", reason="the extra [fast] is not installed")
    _stand_in(monkeypatch, None)
    assert fast_encoder(Vocabulary(small.vocabulary.ranks, pattern=GPT2_PATTERN), small.encode) is None
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    assert fast_encoder(small.vocabulary, small.encode) is None
    assert "pattern" in caplog.text and "not installed" in caplog.text
