"""MinHash against exact likeness (R17)."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.data.curate import shingler
from qianwen.data.curate.duplicate_clusters import candidates
from qianwen.data.curate.minhash import MinHashConfig, bands, likeness, shingle_sets, signed
from qianwen.data.text_arrays import Texts

CONFIG = MinHashConfig()


def planted(count: int, seed: int = 0) -> tuple[list[str], list[float]]:
    """`count` texts and an edit of each; their exact likeness lies between 0.5 and 1."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
    first, second, exact = [], [], []
    for _ in range(count):
        words = draw.choices(vocabulary, k=draw.randint(60, 300))
        edited = list(words)
        for place in draw.sample(range(len(words)), int(len(words) * draw.random() * 0.07)):
            edited[place] = draw.choice(vocabulary)
        one, other = _shingles(words), _shingles(edited)
        first.append(" ".join(words))
        second.append(" ".join(edited))
        exact.append(len(one & other) / len(one | other))
    return first + second, exact


def _shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], list[float]]:
    return planted(1500)


def test_exact_likeness_is_exact(corpus: tuple[list[str], list[float]]) -> None:
    texts, exact = corpus
    values, counts = shingle_sets(Texts(texts), CONFIG)
    pairs = np.stack([np.arange(1500), np.arange(1500) + 1500], axis=1)
    assert likeness(pairs, values, np.cumsum(counts) - counts, counts) == pytest.approx(exact, abs=1e-9)


def test_signatures_agree_as_often_as_texts_are_alike(corpus: tuple[list[str], list[float]]) -> None:
    texts, exact = corpus
    found = signed(Texts(texts), CONFIG).signatures
    errors = (found[:1500] == found[1500:]).mean(axis=1) - exact
    assert abs(errors.mean()) < 0.005 and np.abs(errors).mean() < 0.03  # theory: sqrt(s (1 − s) / 120) · 0.8


def test_bands_propose_what_is_alike_and_comparison_keeps_it(corpus: tuple[list[str], list[float]]) -> None:
    texts, exact = corpus
    together = Texts(texts)
    hashes = bands(signed(together, CONFIG).signatures, CONFIG)
    pairs = candidates(hashes[:, number] for number in range(CONFIG.num_bands))
    values, counts = shingle_sets(together, CONFIG)
    close = pairs[likeness(pairs, values, np.cumsum(counts) - counts, counts) >= 0.8]
    found = {tuple(pair) for pair in close.tolist()}
    wanted = {(number, number + 1500) for number, like in enumerate(exact) if like >= 0.8}
    assert len(wanted) > 300 and len(found & wanted) / len(wanted) >= 0.99 and not found - wanted


def test_a_signature_does_not_depend_on_the_batch() -> None:
    texts = ["one two three four five six", "", "短い", "x " * 9000, "a b"]
    together = signed(Texts(texts), CONFIG).signatures
    assert all(
        (signed(Texts([text]), CONFIG).signatures[0] == together[number]).all() for number, text in enumerate(texts)
    )
    assert (together[1] == 0xFFFFFFFF).all() and together.shape == (5, 120)
    assert signed(Texts([]), CONFIG).signatures.shape == (0, 120)


def test_chinese_and_thai_are_compared_by_their_characters() -> None:
    pairs = [("今天天气很好我们去公园散步然后回家吃饭" * 2, 0), ("สวัสดีครับวันนี้อากาศดีมากเราไปเดินเล่นกัน", 1)]
    for text, _ in pairs:
        edited = text[:-1] + "x"
        values, counts = shingle_sets(Texts([text, edited]), CONFIG)
        assert likeness(np.array([[0, 1]]), values, np.cumsum(counts) - counts, counts)[0] > 0.6


def test_bands_differ_where_rows_do() -> None:
    signature = np.zeros((2, 120), dtype=np.uint32)
    signature[1, 7] = 1
    found = bands(signature, CONFIG)
    assert (found[0] != found[1]).tolist() == [number == 1 for number in range(20)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(alphabet=st.sampled_from("aB é中文กข ௧１x́\n\u3000\U00032000\U000e0041#"), max_size=40), max_size=6)
)
def test_the_kernel_says_what_the_arrays_say(texts: list[str]) -> None:
    if not shingler.available():
        pytest.skip("nothing can be compiled here")
    given_texts = Texts(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingler, "available", lambda: False)
        plain, plain_sets = signed(given_texts, CONFIG), shingle_sets(given_texts, CONFIG)
    found, found_sets = signed(given_texts, CONFIG), shingle_sets(given_texts, CONFIG)
    for one, other in zip((*found, *found_sets), (*plain, *plain_sets), strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.integers(0, 40), max_size=20), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_likeness_in_either_way_is_that_of_sets(members: list[set[int]], draw: random.Random) -> None:
    sizes = np.array([len(one) for one in members])
    values = np.array([value for one in members for value in sorted(one)], dtype=np.uint32)
    pairs = [(draw.randrange(len(members)), draw.randrange(len(members))) for _ in range(12)]
    wanted = [len(members[a] & members[b]) / max(len(members[a] | members[b]), 1) for a, b in pairs]
    for is_compiled in {shingler.available(), False}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shingler, "available", lambda is_compiled=is_compiled: is_compiled)
            found = likeness(np.array(pairs), values, np.cumsum(sizes) - sizes, sizes)
        assert found == pytest.approx(wanted)
