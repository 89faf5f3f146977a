"""Which tokens run in the next step (Yu et al. 2022, "Orca"; chunked prefill after Agrawal et al. 2023, "Sarathi").

There are no separate phases. A sequence has known tokens, the cache holds some of them, and a step computes some of the
rest. A sequence that generates needs one token in a step (and its draft tokens). A sequence that reads its prompt takes
a chunk from the rest of the step's token budget, so a long prompt never stops the sequences that generate.

The order is first come, first served. If blocks run out, the newest running sequence is preempted: its blocks become
free, and it recomputes later (often mostly from shared blocks). The oldest running sequence always continues, and each
sequence fits alone, so every sequence ends. An answer that must read its text again (`growth.py`) also recomputes: it
keeps its place in the order, which is before all new requests, and its text is read in chunks like a prompt.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass
from itertools import chain, count
from operator import attrgetter

from qianwen.chat.model import FinishReason
from qianwen.engine.block_manager import BlockManager
from qianwen.engine.sequence import Sequence, Status

ARRIVAL = attrgetter("arrival")
SCORING = 4  # factor of the token budget if all requests are only scored: larger steps are faster, and no answer waits


@dataclass(frozen=True)
class Chunk:
    """Tokens of one sequence that run in one step: `num_tokens` from `start` on."""

    seq: Sequence
    start: int
    num_tokens: int

    @property
    def end(self) -> int:
        return self.start + self.num_tokens

    @property
    def token_ids(self) -> list[int]:
        """Known tokens, then draft tokens."""
        seq = self.seq
        known = seq.token_ids[self.start : self.end]
        return known + seq.draft[: self.end - seq.num_tokens] if self.end > seq.num_tokens else known

    @property
    def num_rows(self) -> int:
        """Number of rows of scores to compute: one for the last known token and one for each draft token."""
        return max(self.end - self.seq.num_tokens + 1, 0)


class Scheduler:
    """Queues of waiting and running sequences, both in order of arrival."""

    def __init__(self, blocks: BlockManager, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        self.blocks = blocks
        self.max_num_seqs, self.max_num_batched_tokens = max_num_seqs, max_num_batched_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.num_preemptions = self.num_rereads = 0
        self._arrivals = count()

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, seq: Sequence) -> None:
        """Queue a new sequence."""
        seq.arrival = next(self._arrivals)
        self.waiting.append(seq)

    def complete(self, seq: Sequence, num_tokens: int) -> None:
        """Record that the cache holds `num_tokens` of `seq`, and free the blocks that no later token sees."""
        seq.num_computed_tokens = num_tokens
        self.blocks.free_behind_windows(seq)

    def finish(self, seq: Sequence, reason: FinishReason) -> None:
        """End a waiting or running sequence and free its blocks. Does nothing if it has ended."""
        if seq.status is Status.FINISHED:
            return
        (self.running if seq.status is Status.RUNNING else self.waiting).remove(seq)
        self.blocks.free(seq)
        seq.status, seq.finish_reason = Status.FINISHED, reason

    def reread(self, seq: Sequence) -> None:
        """Let a running sequence compute all its tokens again, because its keys do not fit its context any more."""
        self._requeue(seq)
        self.num_rereads += 1

    def restart(self) -> None:
        """Preempt all running sequences and empty the prefix cache, because a failed step may have left wrong keys."""
        while self.running:
            self._preempt(self.running[-1])
        self.blocks.reset()

    def schedule(self) -> list[Chunk]:
        """Choose the chunks of the next step and allocate their blocks."""
        chunks: list[Chunk] = []
        budget = self._budget()
        position = 0
        while position < len(self.running) and budget:
            seq = self.running[position]
            num_behind = len(self.running) - position - 1  # one token of the budget is reserved for each of these
            num_tokens = min(seq.num_new_tokens, max(budget - num_behind, 1))
            if seq.draft and not self.blocks.allocate(seq, seq.num_computed_tokens + num_tokens):
                seq.draft = []  # drop the draft rather than preempt a sequence for it
                num_tokens = min(seq.num_new_tokens, num_tokens)
            if not self._make_room(seq, seq.num_computed_tokens + num_tokens):
                break  # `seq` was the newest and is preempted itself
            budget -= self._append(chunks, seq, num_tokens)
            position += 1
        if position == len(self.running):  # admit new sequences only if every running one has its chunk
            self._admit(chunks, budget)
        return chunks

    def _budget(self) -> int:
        are_scored = all(seq.is_only_scored for seq in chain(self.running, self.waiting))
        return self.max_num_batched_tokens * (SCORING if are_scored else 1)

    def _make_room(self, seq: Sequence, num_tokens: int) -> bool:
        while not self.blocks.allocate(seq, num_tokens):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is seq:
                return False
        return True

    def _preempt(self, seq: Sequence) -> None:
        self._requeue(seq)
        self.num_preemptions += 1

    def _requeue(self, seq: Sequence) -> None:
        self.running.remove(seq)
        self.blocks.free(seq)
        seq.status, seq.num_computed_tokens, seq.draft, seq.is_rerotated = Status.WAITING, 0, [], False
        insort(self.waiting, seq, key=ARRIVAL)

    def _admit(self, chunks: list[Chunk], budget: int) -> None:
        while self.waiting and budget and len(self.running) < self.max_num_seqs:
            seq = self.waiting[0]
            num_shared = self.blocks.match_prefix(seq)
            num_cached = num_shared * self.blocks.block_size
            num_tokens = min(seq.num_tokens - num_cached, budget)
            # spare: each running sequence may need a new block in the next step; a new one must not take the last
            if not self.blocks.can_admit(seq, num_shared, num_cached + num_tokens, spare=len(self.running)):
                return
            self.blocks.share(seq, num_shared)
            if seq.num_output_tokens == 0:  # not after a preemption, where the cache may hold its own output
                seq.num_cached_tokens = num_cached
            seq.num_computed_tokens = num_cached
            has_room = self.blocks.allocate(seq, num_cached + num_tokens)
            assert has_room, "can_admit counted too many free blocks"
            self.waiting.popleft()
            seq.status = Status.RUNNING
            insort(self.running, seq, key=ARRIVAL)
            budget -= self._append(chunks, seq, num_tokens)

    def _append(self, chunks: list[Chunk], seq: Sequence, num_tokens: int) -> int:
        chunks.append(Chunk(seq, seq.num_computed_tokens, num_tokens))
        known = min(seq.num_computed_tokens + num_tokens, seq.num_tokens)
        self.blocks.register(seq, known)
        return num_tokens
