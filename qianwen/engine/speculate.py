"""Speculative decoding: guess several tokens cheaply, check them in one forward (Leviathan et al. 2023).

One forward over k guesses reads the weights once, as one token does. A guess x drawn from q stands with probability
min(1, p(x) / q(x)); the first that falls is replaced by a draw from the residual (p - q)⁺. Text so made has exactly
the distribution p. The residual needs no table: draw x from p, keep it with probability 1 - q(x) / p(x), else again.

    PromptLookup   what followed the last time the same few tokens were seen (Saxena 2023); q is certainty
    DraftModel     a small model of the same vocabulary; q is its distribution under the same filters

Requests whose scores depend on earlier tokens (penalties, grammars) are not guessed for. A seed gives the same text
again only with the same guesses.
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

PREFILL_TOKENS = 512  # of a draft model's forward


class Speculator(Protocol):
    """Fills `seq.draft` (and `seq.draft_dists`, if guesses were drawn) with up to `rooms[i]` tokens."""

    def propose(self, seqs: Rows[Sequence], rooms: Rows[int]) -> None: ...

    def forget(self, seq: Sequence) -> None:
        """`seq` has ended."""
        ...


def can_guess(seq: Sequence) -> bool:
    """Whether the next scores of `seq` do not depend on which tokens are chosen before them."""
    params = seq.params
    return (
        params.repetition_penalty == 1
        and not params.presence_penalty
        and not params.frequency_penalty
        and params.grammar is None
    )


def verify(rows: np.ndarray, seq: Sequence) -> list[tuple[int, np.ndarray]]:
    """The tokens that follow, at least one, each with the row of scores [V] that it was judged by.

    `rows` are the scores behind the last known token and behind each guess.
    """
    sampler, accepted = seq.sampler, []
    for index, row in enumerate(rows[:-1]):
        guess = seq.draft[index]
        dist = seq.draft_dists[index] if seq.draft_dists else None
        token = _judge(sampler, row, guess, dist)
        accepted.append((token, row))
        if token != guess:
            return accepted
    return [*accepted, (sampler.choose(rows[-1]), rows[-1])]


def _judge(sampler: Sampler, row: np.ndarray, guess: int, q: Distribution | None) -> int:
    """The guess if it stands, else a draw from the residual."""
    if sampler.params.is_greedy:
        return sampler.choose(row)
    p = Distribution(sampler.adjust(row) if sampler.params.changes_scores else row, sampler.params)

    def guess_prob(token: int) -> float:
        return q.prob(token) if q else float(token == guess)

    if sampler.random.random() * guess_prob(guess) < p.prob(guess):
        return guess
    while True:
        token = p.draw(sampler.random.random())
        if sampler.random.random() * p.prob(token) < p.prob(token) - guess_prob(token):
            return token


class PromptLookup:
    """Guesses by copying. How many it dares grows with success and shrinks with failure, for each sequence."""

    def __init__(self, num_tokens: int, sizes: tuple[int, ...] = (4, 3, 2)) -> None:
        """At most `num_tokens` at a time, after n-grams of `sizes`, the first that was seen before."""
        self.num_tokens, self.sizes = num_tokens, sizes
        self._memories: dict[Sequence, _Memory] = {}

    def propose(self, seqs: Rows[Sequence], rooms: Rows[int]) -> None:
        for seq, room in zip(seqs, rooms, strict=True):
            memory = self._memories.get(seq)
            if memory is None:
                memory = self._memories[seq] = _Memory(self.sizes, self.num_tokens)
            seq.draft = memory.guess(seq.token_ids)[: max(room, 0)]
            memory.last_draft = seq.draft

    def forget(self, seq: Sequence) -> None:
        self._memories.pop(seq, None)


class _Memory:
    """Where each n-gram of one sequence was last seen, and how its guesses fared."""

    def __init__(self, sizes: tuple[int, ...], max_tokens: int) -> None:
        self.sizes, self.max_tokens, self.dare = sizes, max_tokens, min(4, max_tokens)
        self.last_draft: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # n-gram → the position behind its last occurrence
        self._num_read = 0

    def guess(self, tokens: list[int]) -> list[int]:
        self._learn_from_last(tokens)
        end = len(tokens)
        for position in range(self._num_read + 1, end):  # the n-grams that end before the last token
            for size in self.sizes:
                if size <= position:
                    self._after[tuple(tokens[position - size : position])] = position
        self._num_read = max(end - 1, 0)
        for size in self.sizes:
            found = self._after.get(tuple(tokens[-size:])) if size < end else None
            if found is not None:
                return tokens[found : found + self.dare]
        return []

    def _learn_from_last(self, tokens: list[int]) -> None:
        if not self.last_draft:
            return
        came = tokens[self._num_read + 1 :][: len(self.last_draft)]
        is_right = came == self.last_draft
        self.dare = min(2 * self.dare, self.max_tokens) if is_right else max(len(came), 1)


class DraftModel:
    """Guesses by a small model, with a paged cache of its own that follows the large one's sequences."""

    def __init__(
        self, model: Qwen, vocab_size: int, num_tokens: int, *, num_blocks: int, block_size: int, max_len: int
    ) -> None:
        if model.config.vocab_size < vocab_size:
            raise ConfigError(
                tr(
                    "The draft model knows {draft} tokens and the model {own}: they need one vocabulary.",
                    draft=model.config.vocab_size,
                    own=vocab_size,
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
        wanted: list[tuple[Sequence, Sequence, int]] = []
        for seq, room in zip(seqs, rooms, strict=True):
            shadow = self._shadow(seq)
            count = min(room, self.num_tokens, self.max_len - seq.num_tokens)
            if count > 0 and self.blocks.allocate(shadow, seq.num_tokens + count):
                self._catch_up(shadow)
                wanted.append((seq, shadow, count))
        for step in range(self.num_tokens):
            wanted = [item for item in wanted if item[2] > step]
            if not wanted:
                return
            chunks = [Chunk(shadow, shadow.num_computed_tokens, shadow.num_new_tokens) for _, shadow, _ in wanted]
            for (seq, shadow, _), rows in zip(wanted, self.runner.run(chunks), strict=True):
                shadow.num_computed_tokens = shadow.num_tokens
                shadow.token_ids.append(self._draw(seq, rows[0]))

    def forget(self, seq: Sequence) -> None:
        shadow = self._shadows.pop(seq, None)
        if shadow is not None:
            self.blocks.free(shadow)

    def _shadow(self, seq: Sequence) -> Sequence:
        """The draft's view of `seq`: its keys are good up to the last token that both have."""
        seq.draft, seq.draft_dists = [], []
        if seq not in self._shadows:
            context = Context(rope=rope_state(self.config, seq.num_prompt_tokens))
            request = Request((), seq.params, context)
            self._shadows[seq] = Sequence(seq.request_id, seq.index, request, seq.sampler, seq.detokenizer)
        shadow = self._shadows[seq]
        shadow.token_ids = list(seq.token_ids)
        shadow.num_computed_tokens = min(shadow.num_computed_tokens, seq.num_tokens - 1)
        self.blocks.free_behind_windows(shadow)
        return shadow

    def _catch_up(self, shadow: Sequence) -> None:
        """Read all but the last few tokens, a piece at a time."""
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
