"""Held-out loss of a model, and its change after further training.

Texts are scored in the same way as in training: documents are packed into full sequences without attention between
them, or full sequences are cut from long documents; the loss is the mean over all tokens except the first of each
document or cut. Unit: nats per token, so only models with the same vocabulary can be compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from qianwen.data.tokens.pack import IGNORED
from qianwen.model.loss import chunked_cross_entropy
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr


class HeldOut:
    """Named texts, as token streams in which every document ends with `eod_id`.

    With `cut`, each document of at least `seq_len` tokens is a stream of its own, of as many full sequences as it has;
    shorter documents and texts without long ones are left out.
    """

    def __init__(
        self, texts: Mapping[str, Iterable[Sequence[int]]], eod_id: int, seq_len: int, *, cut: bool = False
    ) -> None:
        self.eod_id, self.seq_len = eod_id, seq_len
        documents = {name: [np.array([*ids, eod_id]) for ids in text] for name, text in texts.items()}
        self.streams: dict[str, list[np.ndarray]] = {}
        for name, parts in documents.items():
            if sum(map(len, parts)) < 2:
                raise DataError(tr("{name} is empty, so it cannot be measured", name=name))
            if not cut:
                self.streams[name] = [np.concatenate(parts)]
            elif long := [ids[: len(ids) // seq_len * seq_len + 1] for ids in parts if len(ids) >= seq_len]:
                self.streams[name] = long

    @torch.no_grad()
    def losses(self, model: Any) -> dict[str, float]:
        """`{"held_out_NAME": nats per token}`; `model` should be in eval mode."""
        return {f"held_out_{name}": self._loss(model, streams) for name, streams in self.streams.items()}

    def _loss(self, model: Any, streams: Sequence[np.ndarray]) -> float:
        total, num_tokens = 0.0, 0
        device = next(model.parameters()).device
        starts = [(stream, start) for stream in streams for start in range(0, len(stream) - 1, self.seq_len)]
        for stream, start in starts:
            ids, labels, positions = self._sequence(stream, start)
            row = [torch.from_numpy(values)[None].to(device) for values in (ids, positions, labels)]
            loss, count = chunked_cross_entropy(model(*row[:2]), model.lm_head.weight, row[2])
            total, num_tokens = total + loss.item(), num_tokens + int(count)
        return total / num_tokens

    def _sequence(self, stream: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, labels and positions [at most L] from `start`."""
        ids = stream[start : start + self.seq_len]
        labels = np.append(stream[start + 1 : start + len(ids) + 1], IGNORED)[: len(ids)]
        labels[ids == self.eod_id] = IGNORED
        places = np.arange(len(ids))
        begins = np.append(True, ids[:-1] == self.eod_id)
        return ids, labels, places - np.maximum.accumulate(np.where(begins, places, 0))


def forgetting(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """The two measurements as a table; a positive change means forgetting."""
    rows = [(name.removeprefix("held_out_"), before[name], after[name], after[name] - before[name]) for name in before]
    width = max(len(tr("held-out text")), *(len(name) for name, *_ in rows))
    head = f"{tr('held-out text'):<{width}}  {tr('before'):>8}  {tr('after'):>8}  {tr('change'):>8}"
    return "\n".join([head, *(f"{n:<{width}}  {b:8.4f}  {a:8.4f}  {change:+8.4f}" for n, b, a, change in rows)])
