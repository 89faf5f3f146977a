"""One answer that is being generated: its tokens, its blocks in the cache, and how it ended.

    token_ids   prompt and answer so far        [0, num_computed_tokens) have keys and values in the cache
    draft       proposed next tokens, which the next step verifies (speculate.py)
    rope        how positions are rotated; a text longer than `state_end` tokens needs another state (growth.py)

A request for n answers has n sequences, which share the blocks of the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Ids
from dataclasses import dataclass, field, replace
from enum import Enum, auto

import numpy as np

from qianwen.chat.model import FinishReason
from qianwen.engine.detokenize import Detokenizer
from qianwen.engine.request import Request
from qianwen.engine.sampling import Distribution, Sampler, TokenLogprob
from qianwen.model.rope_state import RopeState


class Status(Enum):
    """The state of a sequence in the scheduler."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(eq=False)
class Sequence:
    """One answer. Only the scheduler changes `status` and the counts; only the block manager changes `block_tables`."""

    request_id: str
    index: int  # which of the request's n answers
    request: Request
    sampler: Sampler
    detokenizer: Detokenizer
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0  # tokens of the prompt that were in the cache when the sequence first ran
    block_tables: list[list[int]] = field(default_factory=list)  # one for each kind of layer; []: no blocks
    block_hashes: list[bytes] = field(default_factory=list)  # one for each full block of known tokens
    draft: list[int] = field(default_factory=list)
    draft_dists: list[Distribution] = field(default_factory=list)  # what each draft token was drawn from; []: no draw
    status: Status = Status.WAITING
    finish_reason: FinishReason | None = None
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    pooled: np.ndarray | None = None  # [H], the last state, or the sum of the states so far
    state_end: float = math.inf  # the longest text with the state `rope`
    is_rerotated: bool = False  # keys were computed with another state, so no other sequence may share the blocks
    arrival: int = 0  # order in which the scheduler got the sequences

    def __post_init__(self) -> None:
        self.token_ids = list(self.request.tokens)
        self.num_prompt_tokens = len(self.token_ids)
        self.params, self.context = self.request.params, self.request.context

    @property
    def rope(self) -> RopeState:
        """How the positions of all tokens are rotated."""
        return self.context.rope or RopeState()

    def change_rope(self, rope: RopeState, state_end: float) -> None:
        """Continue with another state. Blocks with the new state have other hashes."""
        self.context, self.state_end = replace(self.context, rope=rope), state_end
        self.block_hashes = []

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_new_tokens(self) -> int:
        """Number of tokens that the cache does not hold yet, draft tokens included."""
        return len(self.token_ids) + len(self.draft) - self.num_computed_tokens

    @property
    def is_only_scored(self) -> bool:
        """Whether the request generates nothing and only needs the log-probabilities of its prompt."""
        return self.request.score_from is not None and self.params.max_tokens == 0

    @property
    def output_ids(self) -> Ids[int]:
        return self.token_ids[self.num_prompt_tokens :]
