"""Several files of dialogues: proportions, even use of every row, and what is refused."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.align.dialogues import PackedDialogues
from qianwen.align.training_files import (
    BLOCK,
    MixedDialogues,
    count_files,
    data_files,
    files_table,
    read_files,
    render_files,
    training_sequences,
)
from qianwen.chat.render import Rendered
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.tokenizer.tokenizer import Tokenizer


def dialogue(token: int, length: int = 8) -> Rendered:
    """A dialogue that its token tells apart from others."""
    return Rendered([token] * length, [False] * (length // 2) + [True] * (length - length // 2))


def parts_of(*sizes: int) -> list[list[Rendered]]:
    """Files of so many dialogues; each dialogue has its own token."""
    tokens = iter(range(1, 10_000))
    return [[dialogue(next(tokens)) for _ in range(size)] for size in sizes]


def used(batches: PackedDialogues | MixedDialogues, count: int) -> Counter[int]:
    """How often each dialogue is used in the first `count` sequences."""
    return Counter(each.ids[0] for cursor in range(count) for each in batches.sequence(cursor))


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    weights=st.lists(st.floats(0.1, 10.0), min_size=4, max_size=4),
    blocks=st.integers(1, 10),
)
def test_weights_are_shares_and_no_row_is_used_more_often_than_another(sizes, weights, blocks):
    parts, weights = parts_of(*sizes), weights[: len(sizes)]
    batches = training_sequences(parts, weights, 8, 0, seed=1)
    count = blocks * BLOCK
    uses = used(batches, count)
    for part, weight in zip(parts, weights, strict=True):
        of_part = [uses[each.ids[0]] for each in part]
        assert max(of_part) - min(of_part) <= 1
        assert abs(sum(of_part) - count * weight / sum(weights)) <= len(parts)


def test_without_weights_an_epoch_uses_every_row_once():
    batches = training_sequences(parts_of(3, 20), (), 8, 0, seed=1)
    assert set(used(batches, len(batches)).values()) == {1}
    assert len(batches) == 23


def test_a_resumed_run_reads_the_same_batches():
    whole = training_sequences(parts_of(5, 9), (3, 1), 16, 0, seed=2)
    again = training_sequences(parts_of(5, 9), (3, 1), 16, 0, seed=2)
    first = [whole.batch(cursor, 2) for cursor in range(0, 60, 2)]
    for place in (40, 10, 58):
        batch = again.batch(place, 2)
        assert all(batch[name].equal(tensor) for name, tensor in first[place // 2].items())
    other = training_sequences(parts_of(5, 9), (3, 1), 16, 0, seed=3)
    assert any(not other.batch(cursor, 2)["input_ids"].equal(first[cursor // 2]["input_ids"]) for cursor in (0, 2, 4))


def test_counts_say_share_and_epochs_of_each_file():
    parts = parts_of(10, 30)
    names = ("a.jsonl", "b.jsonl")
    mixed = count_files(names, parts, training_sequences(parts, (3, 1), 8, 0, seed=0), 80)
    assert [(each.dialogues, each.tokens, each.share, each.epochs) for each in mixed] == [
        (10, 80, 0.75, 6.0), (30, 240, 0.25, pytest.approx(20 / 30)),
    ]  # fmt: skip
    plain = count_files(names, parts, training_sequences(parts, (), 8, 0, seed=0), 80)
    assert [(each.share, each.epochs) for each in plain] == [(0.25, 2.0), (0.75, 2.0)]
    assert files_table(mixed).row_count == 2


def write(path: Path, question: str = "q", answer: str = "a") -> str:
    path.write_text(json.dumps({"query": question, "response": answer}) + "\n")
    return str(path)


def test_what_makes_no_sense_is_refused(tmp_path: Path):
    a, b = write(tmp_path / "a.jsonl"), write(tmp_path / "b.jsonl")
    assert data_files(a) == (a,) and data_files((a, b), (3, 1)) == (a, b)
    for weights in [(1, 0), (1, -2), (1, float("nan")), (float("inf"), 1)]:
        with pytest.raises(ConfigError, match="the weight of .* is .*: give a number above 0"):
            data_files((a, b), weights)
    with pytest.raises(ConfigError, match="3 weights for 2 files"):
        data_files((a, b), (1, 2, 3))
    with pytest.raises(ConfigError, match="1 weight for 1 file: give one per file, for two or more"):
        data_files(a, (2,))
    with pytest.raises(ConfigError, match="is named twice"):
        data_files((a, str(tmp_path / "." / "a.jsonl")))
    with pytest.raises(ConfigError, match="there is no file of dialogues"):
        data_files(())
    with pytest.raises(DataError, match=r"absent.jsonl: no such file"):
        read_files((a, str(tmp_path / "absent.jsonl")))


def test_an_error_names_the_file(tmp_path: Path, tokenizer: Tokenizer):
    files = (write(tmp_path / "a.jsonl"), write(tmp_path / "long.jsonl", "q" * 200))
    with pytest.raises(DataError, match=r"long\.jsonl: no answer begins within 128 tokens"):
        render_files(files, read_files(files), tokenizer, "clean", 128)
    assert [len(part) for part in render_files(files, read_files(files), tokenizer, "clean", 512)] == [1, 1]
