"""Which tokens run in the next step (Yu et al. 2022, "Orca"; chunked prefill after Agrawal et al. 2023, "Sarathi").

There are no phases: a sequence has known tokens and a number that the cache holds, and a step computes some of the
difference. One that answers needs one token a step (and its guesses), one that reads its prompt takes chunks of what is
left of the step's budget, so a long prompt never stops those who are answering. First come, first served; if blocks
run out, the newest running sequence gives its blocks back and later recomputes (most of it, often, from shared blocks).
The oldest always goes on and any one fits alone, so every sequence ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import chain

from qianwen.chat.model import FinishReason
from qianwen.engine.block_manager import BlockManager
from qianwen.engine.sequence import Sequence, Status

SCORING = 4  # times the tokens of a step, where texts are only scored: nobody waits for a token, and it is faster


@dataclass(frozen=True)
class Chunk:
    """Tokens of one sequence that run in a step: `num_tokens` from `start` on."""

    seq: Sequence
    start: int
    num_tokens: int

    @property
    def end(self) -> int:
        return self.start + self.num_tokens

    @property
    def token_ids(self) -> list[int]:
        """Known tokens, then guesses."""
        seq = self.seq
        known = seq.token_ids[self.start : self.end]
        return known + seq.draft[: self.end - seq.num_tokens] if self.end > seq.num_tokens else known

    @property
    def num_rows(self) -> int:
        """Tokens whose scores are wanted: the last known one and the guesses behind it."""
        return max(self.end - self.seq.num_tokens + 1, 0)


class Scheduler:
    """Queues of waiting and running sequences, both in order of arrival."""

    def __init__(self, blocks: BlockManager, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        self.blocks = blocks
        self.max_num_seqs, self.max_num_batched_tokens = max_num_seqs, max_num_batched_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.num_preemptions = 0

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, seq: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(seq)

    def complete(self, seq: Sequence, num_tokens: int) -> None:
        """The cache holds `num_tokens` of `seq` now; blocks that none of its later tokens sees are free."""
        seq.num_computed_tokens = num_tokens
        self.blocks.free_behind_windows(seq)

    def finish(self, seq: Sequence, reason: FinishReason) -> None:
        """End a sequence, wherever it stands, and take its blocks back."""
        if seq.status is Status.FINISHED:
            return
        (self.running if seq.status is Status.RUNNING else self.waiting).remove(seq)
        self.blocks.free(seq)
        seq.status, seq.finish_reason = Status.FINISHED, reason

    def restart(self) -> None:
        """Forget what a step that failed halfway may have left in the cache; everyone recomputes."""
        while self.running:
            self._preempt(self.running[-1])
        self.blocks.reset()

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, and the blocks to hold them."""
        chunks: list[Chunk] = []
        budget = self._budget()
        position = 0
        while position < len(self.running) and budget:
            seq = self.running[position]
            others = len(self.running) - position - 1  # keep a token for each of those behind
            num_tokens = min(seq.num_new_tokens, max(budget - others, 1))
            if seq.draft and not self.blocks.allocate(seq, seq.num_computed_tokens + num_tokens):
                seq.draft = []  # nobody is stopped for a guess
                num_tokens = min(seq.num_new_tokens, num_tokens)
            if not self._make_room(seq, seq.num_computed_tokens + num_tokens):
                break  # it was the newest and gave up its own blocks
            budget -= self._append(chunks, seq, num_tokens)
            position += 1
        if position == len(self.running):
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
        self.running.remove(seq)
        self.blocks.free(seq)
        seq.status, seq.num_computed_tokens, seq.draft = Status.WAITING, 0, []
        self.waiting.appendleft(seq)
        self.num_preemptions += 1

    def _admit(self, chunks: list[Chunk], budget: int) -> None:
        while self.waiting and budget and len(self.running) < self.max_num_seqs:
            seq = self.waiting[0]
            num_shared = self.blocks.match_prefix(seq)
            num_cached = num_shared * self.blocks.block_size
            num_tokens = min(seq.num_tokens - num_cached, budget)
            if not self.blocks.can_admit(seq, num_shared, num_cached + num_tokens, spare=len(self.running)):
                return
            self.blocks.share(seq, num_shared)
            if seq.num_output_tokens == 0:
                seq.num_cached_tokens = num_cached
            seq.num_computed_tokens = num_cached
            has_room = self.blocks.allocate(seq, num_cached + num_tokens)
            assert has_room, "can_admit counted wrong"
            self.waiting.popleft()
            seq.status = Status.RUNNING
            self.running.append(seq)
            budget -= self._append(chunks, seq, num_tokens)

    def _append(self, chunks: list[Chunk], seq: Sequence, num_tokens: int) -> int:
        chunks.append(Chunk(seq, seq.num_computed_tokens, num_tokens))
        known = min(seq.num_computed_tokens + num_tokens, seq.num_tokens)
        self.blocks.register(seq, known)
        return num_tokens
