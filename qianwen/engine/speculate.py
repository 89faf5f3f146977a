"""Speculative decoding: propose several tokens cheaply, verify them in one forward (Leviathan et al. 2023).

One forward over k draft tokens reads the weights once, as for one token. A draft token x is drawn from q and accepted
with probability min(1, p(x) / q(x)). The first rejected token is replaced by a draw from the residual (p - q)⁺. The
text has exactly the distribution p. The residual is sampled without a table over the vocabulary: draw x from p, accept
it with probability 1 - q(x) / p(x), else draw again.

    PromptLookup   copies what followed the last occurrence of the same few tokens (Saxena 2023); q is 1 for its token
    DraftModel     a small model with the same vocabulary; q is its distribution after the same filters

Requests whose scores depend on earlier tokens (penalties, grammars) get no draft. A seed reproduces a text only if the
drafts are the same.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from typing import Protocol

import numpy as np

from qianwen.engine.block_manager import BlockManager
from qianwen.engine.model_runner import ModelRunner
from qianwen.engine.request import Context, Request
from qianwen.engine.sampling import Distribution, Sampler
from qianwen.engine.scheduler import Chunk
from qianwen.engine.sequence import Sequence
from qianwen.model.caches.paged import PagedCache
from qianwen.model.long_context import rope_state
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

PREFILL_TOKENS = 512  # tokens of a forward of the draft model while it reads a prompt


class Speculator(Protocol):
    """Proposes draft tokens for sequences."""

    def propose(self, seqs: Rows[Sequence], rooms: Rows[int]) -> None:
        """Fill each `seq.draft` with up to `rooms[i]` tokens, and `seq.draft_dists` if they were drawn."""
        ...

    def remove(self, seq: Sequence) -> None:
        """Free the state for `seq`, which has ended."""
        ...


def can_guess(seq: Sequence) -> bool:
    """Whether `seq` can have a draft: its scores are not changed by the tokens that were chosen before."""
    params = seq.params
    return (
        params.repetition_penalty == 1
        and not params.presence_penalty
        and not params.frequency_penalty
        and params.grammar is None
    )


def verify(rows: np.ndarray, seq: Sequence) -> list[tuple[int, np.ndarray]]:
    """The next tokens, at least one, each with the row of scores [V] that decided it.

    `rows` are the scores after the last known token and after each draft token.
    """
    sampler, accepted = seq.sampler, []
    for index, row in enumerate(rows[:-1]):
        guess = seq.draft[index]
        dist = seq.draft_dists[index] if seq.draft_dists else None
        token = _accept_or_redraw(sampler, row, guess, dist)
        accepted.append((token, row))
        if token != guess:
            return accepted
    return [*accepted, (sampler.choose(rows[-1]), rows[-1])]


def _accept_or_redraw(sampler: Sampler, row: np.ndarray, guess: int, q: Distribution | None) -> int:
    """The draft token if it is accepted, else a draw from the residual."""
    if sampler.params.is_greedy:
        return sampler.choose(row)
    p = Distribution(sampler.adjust(row) if sampler.params.changes_scores else row, sampler.params)

    def guess_prob(token: int) -> float:
        return q.prob(token) if q else float(token == guess)

    # u < p / q, multiplied by q: no division by zero
    if sampler.random.random() * guess_prob(guess) < p.prob(guess):
        return guess
    while True:
        token = p.draw(sampler.random.random())
        if sampler.random.random() * p.prob(token) < p.prob(token) - guess_prob(token):
            return token


class PromptLookup:
    """Drafts by copying earlier text. The draft length of a sequence grows with success and shrinks with failure."""

    def __init__(self, num_tokens: int, sizes: tuple[int, ...] = (4, 3, 2)) -> None:
        """Drafts have at most `num_tokens`. `sizes` are the n-gram sizes to look up; the first that occurs is used."""
        self.num_tokens, self.sizes = num_tokens, sizes
        self._indexes: dict[Sequence, _NgramIndex] = {}

    def propose(self, seqs: Rows[Sequence], rooms: Rows[int]) -> None:
        for seq, room in zip(seqs, rooms, strict=True):
            index = self._indexes.get(seq)
            if index is None:
                index = self._indexes[seq] = _NgramIndex(self.sizes, self.num_tokens)
            seq.draft = index.draft(seq.token_ids)[: max(room, 0)]
            index.last_draft = seq.draft

    def remove(self, seq: Sequence) -> None:
        self._indexes.pop(seq, None)


class _NgramIndex:
    """The last occurrence of each n-gram of one sequence, and the draft length that its success suggests."""

    def __init__(self, sizes: tuple[int, ...], max_tokens: int) -> None:
        self.sizes, self.max_tokens, self.draft_len = sizes, max_tokens, min(4, max_tokens)
        self.last_draft: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # n-gram → the position after its last occurrence
        self._num_read = 0

    def draft(self, tokens: list[int]) -> list[int]:
        self._adapt_length(tokens)
        end = len(tokens)
        for position in range(self._num_read + 1, end):  # the n-grams that end before the last token
            for size in self.sizes:
                if size <= position:
                    self._after[tuple(tokens[position - size : position])] = position
        self._num_read = max(end - 1, 0)
        for size in self.sizes:
            position = self._after.get(tuple(tokens[-size:])) if size < end else None
            if position is not None:
                return tokens[position : position + self.draft_len]
        return []

    def _adapt_length(self, tokens: list[int]) -> None:
        """Double the draft length if all of the last draft was accepted, else set it to the number of new tokens."""
        if not self.last_draft:
            return
        new = tokens[self._num_read + 1 :][: len(self.last_draft)]
        is_accepted = new == self.last_draft
        self.draft_len = min(2 * self.draft_len, self.max_tokens) if is_accepted else max(len(new), 1)


class DraftModel:
    """Drafts by a small model. It has its own paged cache, with a shadow sequence for each sequence of the engine."""

    def __init__(
        self, model: Qwen, vocab_size: int, num_tokens: int, *, num_blocks: int, block_size: int, max_len: int
    ) -> None:
        if model.config.vocab_size < vocab_size:
            raise ConfigError(
                tr(
                    "the draft model has {draft} tokens, the model {size}: use a draft model with the same vocabulary",
                    draft=model.config.vocab_size,
                    size=vocab_size,
                )
            )
        weight = model.model.norm.weight
        self.num_tokens, self.max_len = num_tokens, min(max_len, model.config.max_position_embeddings)
        cache = PagedCache(model.config, num_blocks, block_size, weight.device, weight.dtype)
        self.runner = ModelRunner(model, cache, vocab_size)
        self.config = model.config
        self.blocks = BlockManager(num_blocks, block_size, prefix_caching=False, windows=model.config.distinct_windows)
        self._shadows: dict[Sequence, Sequence] = {}

    def propose(self, seqs: Rows[Sequence], rooms: Rows[int]) -> None:
        pending: list[tuple[Sequence, Sequence, int]] = []
        for seq, room in zip(seqs, rooms, strict=True):
            shadow = self._shadow(seq)
            count = min(room, self.num_tokens, self.max_len - seq.num_tokens)
            if count > 0 and self.blocks.allocate(shadow, seq.num_tokens + count):
                self._catch_up(shadow)
                pending.append((seq, shadow, count))
        for step in range(self.num_tokens):
            pending = [item for item in pending if item[2] > step]
            if not pending:
                return
            chunks = [Chunk(shadow, shadow.num_computed_tokens, shadow.num_new_tokens) for _, shadow, _ in pending]
            for (seq, shadow, _), rows in zip(pending, self.runner.run(chunks), strict=True):
                shadow.num_computed_tokens = shadow.num_tokens
                shadow.token_ids.append(self._draw(seq, rows[0]))

    def remove(self, seq: Sequence) -> None:
        shadow = self._shadows.pop(seq, None)
        if shadow is not None:
            self.blocks.free(shadow)

    def _shadow(self, seq: Sequence) -> Sequence:
        """The sequence of the draft model for `seq`, with the same tokens; keys of rejected tokens are dropped."""
        seq.draft, seq.draft_dists = [], []
        rope = rope_state(self.config, seq.num_tokens)
        if seq in self._shadows and self._shadows[seq].rope != rope:
            self.remove(seq)  # the text is read again with the new state
        if seq not in self._shadows:
            request = Request((), seq.params, Context(rope=rope))
            self._shadows[seq] = Sequence(seq.request_id, seq.index, request, seq.sampler, seq.detokenizer)
        shadow = self._shadows[seq]
        shadow.token_ids = list(seq.token_ids)
        shadow.num_computed_tokens = min(shadow.num_computed_tokens, seq.num_tokens - 1)
        self.blocks.free_behind_windows(shadow)
        return shadow

    def _catch_up(self, shadow: Sequence) -> None:
        """Read all but the last tokens of a long text, in chunks of `PREFILL_TOKENS`."""
        while shadow.num_new_tokens > PREFILL_TOKENS:
            self.runner.run([Chunk(shadow, shadow.num_computed_tokens, PREFILL_TOKENS)])
            shadow.num_computed_tokens += PREFILL_TOKENS

    def _draw(self, seq: Sequence, row: np.ndarray) -> int:
        sampler = seq.sampler
        if sampler.params.is_greedy:
            token = sampler.choose(row)
        else:
            scores = sampler.adjust(row) if sampler.params.changes_scores else row
            dist = Distribution(scores, sampler.params)
            seq.draft_dists.append(dist)
            token = dist.draw(sampler.random.random())
        seq.draft.append(token)
        return token
