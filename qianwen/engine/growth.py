"""Answers that make a text so long that it needs another rope state, as at the doublings of dynamic NTK.

A prompt of n tokens is read with `rope_state(n)`. Stored keys are rotated, so a text of n tokens needs that state for
all its keys before token n + 1 is predicted. A request chooses what happens if the state of its answer changes:

    exact      the text is read again, in chunks like a prompt (often partly from the prefix cache). Every token is
               predicted as after a fresh prompt of the same text
    rerotate   the stored keys are rotated to the new state. This is an approximation: from the second layer on, keys
               come from hidden states that were computed with the old state
    fixed      the state of the prompt stays for the whole answer, as in the released code

A draft ends where the state ends, so no token is verified with another state than its own. Requests whose context has a
rope state keep it. Scores and embeddings of prompts are computed with the state of the prompt.
"""

from __future__ import annotations

import math

from qianwen.engine.request import Request
from qianwen.engine.scheduler import Scheduler
from qianwen.engine.sequence import Sequence, Status
from qianwen.model.caches.paged import PagedCache
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import AS_CONFIGURED, LongContext, rope_state, state_end
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.runtime.translation import tr


class Growth:
    """Keeps the state of each sequence that of its text."""

    def __init__(self, config: QwenConfig, scheduler: Scheduler, cache: PagedCache) -> None:
        self.config, self.scheduler, self.cache = config, scheduler, cache

    def begin(self, seq: Sequence) -> None:
        """Choose the state of a new sequence, unless its request has one."""
        if seq.context.rope is None:
            self._choose(seq)

    def follow(self, seq: Sequence) -> None:
        """After a step: change the state of a sequence whose text has become too long for it."""
        if seq.num_tokens <= seq.state_end or seq.status is not Status.RUNNING:
            return
        if seq.request.extension.on_growth == "rerotate" and self._rerotate(seq):
            return
        self._choose(seq)
        self.scheduler.reread(seq)

    def _choose(self, seq: Sequence) -> None:
        extension = seq.request.extension
        end = math.inf if extension.on_growth == "fixed" else state_end(self.config, seq.num_tokens, extension)
        seq.change_rope(rope_state(self.config, seq.num_tokens, extension), end)

    def _rerotate(self, seq: Sequence) -> bool:
        """Rotate the keys of `seq` to its new state. False, and no change, if there are no blocks for the copies."""
        before, tables = seq.rope, None
        if not self.cache.bare_keys:
            tables = self.scheduler.blocks.detach(seq)
            if tables is None:
                return False
        self._choose(seq)
        seq.is_rerotated = True
        if tables is not None:
            self.cache.rerotate(tables, seq.block_tables, before, seq.rope)
        return True


def check_default(extension: LongContext, is_invariant: bool) -> None:
    """ConfigError if the requests of an engine in the batch-invariant mode would be rerotated by default."""
    if message := _conflict(extension, is_invariant):
        raise ConfigError(message)


def check_growth(request: Request, is_invariant: bool) -> None:
    """RequestError if a request has two rotations, or one that the batch-invariant mode excludes."""
    if request.context.rope is not None and request.extension != AS_CONFIGURED:
        message = "the context already has the rope state {state}: leave out either it or the extension"
        raise RequestError(tr(message, state=request.context.rope.method), param="rope")
    if message := _conflict(request.extension, is_invariant):
        raise RequestError(message, param="rope")


def _conflict(extension: LongContext, is_invariant: bool) -> str:
    """Why an extension is not possible in an engine; empty if it is."""
    if not is_invariant or extension.on_growth != "rerotate":
        return ""
    message = (
        "on_growth = rerotate is not possible in the batch-invariant mode, "
        "because a preempted answer is read again without it: use exact or fixed"
    )
    return tr(message)
