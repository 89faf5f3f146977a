"""Runs the chunks of one step through the network. Only this part of the engine computes with tensors.

All tokens of a step are one row [1, T]: answers and chunks of prompts side by side; the cache separates the sequences.
Only hidden states that predict a token go through the head. The metadata of a step is computed once, in NumPy, and the
scores are NumPy arrays.

With `tile` > 0 a forward is batch-invariant. Matrix kernels choose their order of summation by the number of rows. So
every forward has exactly `tile` rows, with padding if necessary, and the bits of a token depend on its own text alone.
If all kernels give the same result for any number of rows, `tile` is 0 in this mode too.

Shapes: T tokens, R rows of scores, H hidden_size, V vocabulary without the padding rows of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from qianwen.engine.sampling import token_logprob
from qianwen.engine.scheduler import Chunk
from qianwen.model.caches.paged import PagedCache
from qianwen.model.fused_layers import fused_layers
from qianwen.model.linears.adapter_bank import AdapterBank
from qianwen.model.transformer import Features, Qwen, RunLayer, run_layer

SCORED_ROWS = 64  # rows of prompt scores that are in memory at the same time


class ModelRunner:
    """A model and its cache."""

    def __init__(self, model: Qwen, cache: PagedCache, vocab_size: int, tile: int = 0) -> None:
        self.model, self.cache, self.vocab_size, self.tile = model, cache, vocab_size, tile
        self.device = cache.device
        self.bank: AdapterBank | None = None  # the adapters that requests can use

    def run(self, chunks: list[Chunk]) -> list[np.ndarray]:
        """Scores [R, V] of each chunk: a row for the last known token and each draft token; none inside a prompt."""
        with torch.inference_mode(), _evaluating(self.model):
            hidden = self._hidden(chunks)
            ends = np.cumsum([chunk.num_tokens for chunk in chunks])
            for chunk, end in zip(chunks, ends, strict=True):
                if chunk.seq.request.score_from is not None:
                    self._score_prompt(chunk, hidden[end - chunk.num_tokens : end])
                if chunk.seq.request.pooling is not None and not chunk.seq.num_output_tokens:
                    _pool(chunk, hidden[end - chunk.num_tokens : end].float().cpu().numpy())
            counts = [chunk.num_rows for chunk in chunks]
            rows = np.concatenate([np.arange(end - count, end) for end, count in zip(ends, counts, strict=True)])
            if not len(rows):
                return [np.empty((0, self.vocab_size), np.float32)] * len(chunks)
            if len(rows) < len(hidden):
                hidden = hidden[torch.from_numpy(rows).to(self.device)]
            scores = self.scores(hidden)
        return np.split(scores, np.cumsum(counts)[:-1])

    def scores(self, hidden: Tensor) -> np.ndarray:
        """hidden [R, H] → scores [R, V] in fp32."""
        if not self.tile:
            return self._head(hidden)
        tiles = [self._head(_padded(part, self.tile))[: len(part)] for part in hidden.split(self.tile)]
        return np.concatenate(tiles)

    def _score_prompt(self, chunk: Chunk, hidden: Tensor) -> None:
        """Add the log-probabilities of the prompt tokens that the hidden states [T, H] of `chunk` predict."""
        seq = chunk.seq
        # a preempted prompt is computed again, but its tokens are not scored twice
        first = max(seq.request.score_from or 1, 1) + len(seq.prompt_logprobs)
        targets = range(max(first, chunk.start + 1), min(chunk.end + 1, seq.num_prompt_tokens))
        for begin in range(targets.start, targets.stop, SCORED_ROWS):
            part = range(begin, min(begin + SCORED_ROWS, targets.stop))
            rows = self.scores(hidden[part.start - 1 - chunk.start : part.stop - 1 - chunk.start])
            num_top = max(seq.params.logprobs or 0, 1)
            seq.prompt_logprobs += [
                token_logprob(row, seq.token_ids[target], num_top) for row, target in zip(rows, part, strict=True)
            ]

    def _head(self, hidden: Tensor) -> np.ndarray:
        return self.model.logits(hidden)[:, : self.vocab_size].float().cpu().numpy()

    def _hidden(self, chunks: list[Chunk]) -> Tensor:
        """Hidden states [T, H] of the tokens of all chunks, in their order."""
        if not self.tile:
            return self._forward(chunks)
        return torch.cat([self._forward(tile)[: sum(c.num_tokens for c in tile)] for tile in _tiles(chunks, self.tile)])

    def _forward(self, chunks: list[Chunk]) -> Tensor:
        """One call of the network, padded to `tile` tokens; each token of padding is a sequence without blocks."""
        ids: list[int] = []
        for chunk in chunks:
            ids += chunk.token_ids
        padding = max(self.tile - len(ids), 0)
        tables = [
            [chunk.seq.block_tables[kind] for chunk in chunks] + [[]] * padding for kind in range(self.cache.num_kinds)
        ]
        query_lens = np.array([chunk.num_tokens for chunk in chunks] + [1] * padding)
        context_lens = np.array([chunk.end for chunk in chunks] + [1] * padding)
        ropes = [chunk.seq.rope for chunk in chunks] + [chunks[0].seq.rope] * padding
        positions = self.cache.begin(tables, context_lens, query_lens, ropes)
        input_ids = torch.tensor(ids + [0] * padding).unsqueeze(0).to(self.device)
        positions = torch.from_numpy(positions).unsqueeze(0).to(self.device)
        with self._run_layer(chunks) as run:
            return self.model(input_ids, positions, self.cache, _features(chunks), run_layer=run)[0]

    @contextmanager
    def _run_layer(self, chunks: list[Chunk]) -> Iterator[RunLayer]:
        """How this forward runs the layers: with the fused kernels, or as modules if adapters change their linears."""
        fused = fused_layers(self.model, is_invariant=self.cache.is_invariant)
        if self.bank is None:
            yield fused
            return
        adapters = [chunk.seq.context.adapter for chunk in chunks]
        with self.bank.step(adapters, [chunk.num_tokens for chunk in chunks]):
            yield run_layer if self.bank.needs_modules else fused


def _features(chunks: list[Chunk]) -> Features:
    """The features of the chunks' tokens, with their positions in the row of all chunks."""
    placed, offset = [], 0
    for chunk in chunks:
        for span in chunk.seq.context.features:
            if overlap := span.overlap(chunk.start, chunk.end):
                first, states = overlap
                placed.append((0, offset + first - chunk.start, states))
        offset += chunk.num_tokens
    return placed


def _pool(chunk: Chunk, states: np.ndarray) -> None:
    """Add the states [T, H] of prompt tokens to the embedding; a preempted prompt starts again at its first token."""
    seq = chunk.seq
    if seq.request.pooling == "last":
        seq.pooled = states[-1]
    else:
        total = states.sum(axis=0, dtype=np.float64)
        seq.pooled = total if chunk.start == 0 or seq.pooled is None else seq.pooled + total


@contextmanager
def _evaluating(model: Qwen) -> Iterator[None]:
    """Run with the modules in evaluation mode (in training mode NTK is off), then restore their mode."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


def _padded(rows: Tensor, size: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(size - len(rows), rows.size(1))]) if len(rows) < size else rows


def _tiles(chunks: list[Chunk], size: int) -> Iterator[list[Chunk]]:
    """Cut the chunks into lists of `size` tokens, in order; the last list may have fewer."""
    tile: list[Chunk] = []
    room = size
    for chunk in chunks:
        start = chunk.start
        while start < chunk.end:
            count = min(room, chunk.end - start)
            tile.append(Chunk(chunk.seq, start, count))
            start, room = start + count, room - count
            if not room:
                yield tile
                tile, room = [], size
    if tile:
        yield tile
