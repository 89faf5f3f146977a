"""Held-out loss: every token counted once, documents kept apart."""

from types import SimpleNamespace

import pytest
import torch

from qianwen.model import Qwen
from qianwen.runtime.errors import DataError
from qianwen.train.held_out import HeldOut, forgetting


def test_is_the_mean_over_tokens_of_documents_read_alone(tiny):
    model = Qwen(tiny.SHAPE).init_weights(0).eval()
    documents = [[5, 6, 7], [8], list(range(10, 30))]
    total, count = 0.0, 0
    for ids in documents:
        ids = torch.tensor([*ids, 63])
        logits = model.logits(model(ids[None, :-1]))[0]
        total += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
        count += len(ids) - 1
    found = HeldOut({"x": documents}, 63, seq_len=64).losses(model)
    assert found == {"held_out_x": pytest.approx(total / count, rel=1e-6)}


def test_cuts_long_texts_and_loses_only_the_cut_context(tiny):
    held_out = HeldOut({"x": [list(range(50))]}, 63, seq_len=20)
    cuts = [held_out._sequence(held_out.streams["x"][0], start) for start in (0, 20, 40)]
    assert sum((labels != -100).sum() for _, labels, _ in cuts) == 50
    assert [positions.tolist() for _, _, positions in cuts] == [list(range(20)), list(range(20)), list(range(11))]


def test_cuts_of_long_documents_have_all_positions(tiny):
    model = Qwen(tiny.SHAPE).init_weights(0).eval()
    documents = {"x": [list(range(10)), list(range(5, 50)), list(range(39)), [7] * 60], "short": [[1, 2, 3]]}
    held_out = HeldOut(documents, 63, seq_len=20, cut=True)
    rows = [
        (stream, held_out._sequence(stream, start))
        for stream in held_out.streams["x"]
        for start in range(0, len(stream) - 1, 20)
    ]
    assert len(rows) == 2 + 2 + 3 and "short" not in held_out.streams
    assert all(positions.tolist() == list(range(20)) for _, (_, _, positions) in rows)
    assert [labels[-1] for _, (_, labels, _) in rows] == [25, 45, 20, -100, 7, 7, 63]
    total = count = 0.0
    for _, (ids, labels, _) in rows:
        logits = model.logits(model(torch.from_numpy(ids)[None]))[0]
        labels = torch.from_numpy(labels)
        total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        count += (labels != -100).sum().item()
    assert held_out.losses(model) == {"held_out_x": pytest.approx(total / count, rel=1e-6)}


def test_scores_a_model_that_knows_everything():
    class Oracle(torch.nn.Module):
        """Hidden states are one-hot of the next id, the head is 100 times the identity."""

        def __init__(self) -> None:
            super().__init__()
            self.lm_head = SimpleNamespace(weight=100 * torch.eye(8))
            self.anything = torch.nn.Parameter(torch.zeros(1))

        def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot((ids + 1) % 8, 8).float()

    assert HeldOut({"x": [[1, 2, 3, 4, 5, 6]]}, 7, 4).losses(Oracle())["held_out_x"] == pytest.approx(0.0)


def test_empty_texts_are_named():
    with pytest.raises(DataError, match="nothing.txt is empty"):
        HeldOut({"nothing.txt": []}, 63, 8)


def test_the_table_shows_what_was_forgotten():
    table = forgetting({"held_out_zh": 2.0, "held_out_code": 1.0}, {"held_out_zh": 2.25, "held_out_code": 0.5})
    assert table.splitlines()[1].split() == ["zh", "2.0000", "2.2500", "+0.2500"]
    assert table.splitlines()[2].split() == ["code", "1.0000", "0.5000", "-0.5000"]
