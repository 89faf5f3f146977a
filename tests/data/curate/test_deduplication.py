"""Duplicates: the same after normalisation, the same page, nearly the same."""

import random

import numpy as np
import pytest

from qianwen.data.curate.deduplication import (
    ADDRESS,
    EXACT,
    NEAR,
    Duplicates,
    Keys,
    find_duplicates,
    fingerprint,
    without_duplicates,
)
from qianwen.data.curate.minhash import MinHashConfig, bands, shingle_sets, signed
from qianwen.data.documents.document import Document, Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.text_arrays import Texts

CONFIG = MinHashConfig()
PROSE = "A long text of many words about the sea and the boats that sail on it in every weather but a storm of autumn"


def document(text: str, source: str) -> Document:
    return Document(text=text, source=source, lang="en", licence="x", kind="text")


def test_case_spacing_and_unicode_form_do_not_tell_texts_apart() -> None:
    assert fingerprint("Ａ  caf\u00e9\n") == fingerprint("a cafe\u0301")
    assert fingerprint("a b") != fingerprint("ab")


def test_the_first_stays_and_the_others_name_it() -> None:
    unreadable = Rejected("z", 1, DropReason.NOT_JSON)
    found = list(without_duplicates([document("One", "a"), unreadable, document("two", "b"), document(" one ", "c")]))
    assert [item["source"] for item in found if not isinstance(item, Rejected)] == ["a", "b"]
    assert found[1] is unreadable and found[3] == Rejected("c", 0, DropReason.DUPLICATE, "a")


def found_in(texts: list[str], addresses: list[int] | None = None, **options: int) -> Duplicates:
    arrays = Texts(texts)
    hashes = bands(signed(arrays, CONFIG).signatures, CONFIG)
    keys = Keys(
        np.array([np.frombuffer(fingerprint(text), dtype="<u8") for text in texts]).reshape(-1, 2),
        np.array([hash(text) % 2**64 for text in texts], dtype=np.uint64),
        np.array(addresses or [0] * len(texts), dtype=np.uint64),
        arrays.word_keys(),
        arrays.num_words,
    )

    def sets(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values, counts = shingle_sets(Texts([texts[number] for number in chosen]), CONFIG)
        return values, np.cumsum(counts) - counts, counts

    return find_duplicates(keys, lambda number: hashes[:, number], sets, CONFIG, **options)


def test_each_kind_of_duplicate_is_named() -> None:
    texts = [
        PROSE,
        PROSE.upper(),
        PROSE.replace(" ", ", "),
        PROSE + " or winter",
        "something else",
        "another thing",
        "",
        "🙂",
    ]
    found = found_in(texts, [0, 0, 0, 0, 5, 5, 0, 0])
    assert sorted(found.kinds.tolist()[:2]) == [EXACT, NEAR]  # one repeats the other, and the longest of all stays
    assert found.kinds.tolist()[2:4] == [NEAR, 0]
    assert sorted(found.kinds.tolist()[4:6]) == [0, ADDRESS]
    assert found.kinds.tolist()[6:] == [0, 0]  # without a word, and not the same


def test_nothing_is_found_in_nothing() -> None:
    assert len(found_in([]).representatives) == 0
    assert found_in(["one"]).representatives.tolist() == [0]


def test_the_longest_of_a_cluster_stays_and_all_point_to_it() -> None:
    words = [f"word{number}" for number in range(200)]
    chain = [" ".join(words[: 200 - 10 * step]) for step in range(4)]
    found = found_in(chain)
    assert found.representatives.tolist() == [0, 0, 0, 0] and found.kinds.tolist() == [0, NEAR, NEAR, NEAR]


@pytest.mark.parametrize("in_memory", [1_000_000, 0])
def test_order_changes_nothing(in_memory: int) -> None:
    if not in_memory:
        pytest.importorskip("daft", reason="Daft comes with the extra `data`")
    draw = random.Random(3)
    base = [[f"{draw.choice('abcdefgh')}{draw.randint(0, 999)}" for _ in range(80)] for _ in range(40)]
    texts = [" ".join(words) for words in base]
    for words in base[:20]:
        for _ in range(3):
            edited = list(words)
            edited[draw.randrange(80)] = "edited"
            texts.append(" ".join(edited[: draw.randint(74, 80)]))
    kept = []
    for seed in range(3):
        random.Random(seed).shuffle(texts)
        found = found_in(texts, in_memory=in_memory)
        kept.append({texts[number] for number in np.flatnonzero(found.kinds == 0)})
    assert kept[0] == kept[1] == kept[2] and 40 <= len(kept[0]) < 80


def edited(words: list[str], likeness: float, draw: random.Random) -> list[str]:
    """Words of which so many were changed, all over, that about this share of the shingles of both is left."""
    changes = round(len(words) * (1 - (2 * likeness / (1 + likeness)) ** 0.2) * 1.02)
    out = list(words)
    for place in draw.sample(range(len(words)), changes):
        out[place] = f"edit{draw.randrange(10**6)}"
    return out


def jaccard(one: list[str], other: list[str]) -> float:
    a, b = ({tuple(words[start : start + 5]) for start in range(len(words) - 4)} for words in (one, other))
    return len(a & b) / len(a | b)


@pytest.fixture(scope="module")
def planted() -> tuple[list[str], list[float]]:
    """Ten thousand documents: 2k is an original, 2k + 1 an edit of it, of a likeness from one half to one."""
    draw = random.Random(17)
    vocabulary = ["".join(draw.choices("abcdefghijklmnoprstu", k=draw.randint(3, 8))) for _ in range(20_000)]
    texts, likenesses = [], []
    for number in range(5000):
        words = draw.choices(vocabulary, k=draw.randint(60, 160))
        other = edited(words, 0.5 + 0.5 * (number % 100) / 99, draw)
        texts += [" ".join(words), " ".join(other)]
        likenesses.append(jaccard(words, other))
    return texts, likenesses


@pytest.mark.slow
def test_planted_near_duplicates_are_found_and_no_others(planted: tuple[list[str], list[float]]) -> None:
    """R17: recall of pairs of likeness 0.8 or more, precision of what was dropped, against the exact likeness."""
    texts, likenesses = planted
    dropped = found_in(texts).kinds.reshape(-1, 2).any(axis=1)
    alike = np.array(likenesses) >= CONFIG.threshold
    assert 1500 < alike.sum() < 3500
    assert dropped[alike].mean() >= 0.95 and alike[dropped].mean() >= 0.99


@pytest.mark.slow
def test_joins_find_what_memory_finds(planted: tuple[list[str], list[float]]) -> None:
    pytest.importorskip("daft", reason="Daft comes with the extra `data`")
    some = planted[0][:1000]
    joined, held = found_in(some, in_memory=0), found_in(some)
    assert (
        (joined.representatives == held.representatives).all()
        and (joined.kinds == held.kinds).all()
        and held.kinds.any()
    )
