"""The engine: it queues requests; each `step` computes tokens of many requests and returns the new text of answers.

    step:  schedule chunks → run the network → choose tokens → decode text, finish sequences → propose a draft

It runs in one thread and handles neither the text of prompts nor HTTP; `llm.py` and the server do. The state of a
request is in its sequences only, so the model has no state of requests between two steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from collections.abc import Sequence as Ids
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qianwen.chat.model import FinishReason, Usage
from qianwen.checkpoints.adapter_folder import read_adapter
from qianwen.engine.block_manager import BlockManager
from qianwen.engine.context_size import ContextSize, context_size
from qianwen.engine.detokenize import Detokenizer, StopStrings
from qianwen.engine.growth import Growth, check_default, check_growth
from qianwen.engine.kv_cache import (
    INVARIANT_TILE,
    CacheDtype,
    blocks_of_kinds,
    invariant_tile,
    new_cache,
    token_bytes,
)
from qianwen.engine.model_runner import ModelRunner
from qianwen.engine.request import Request, check_features, check_tokens
from qianwen.engine.sampling import Sampler, TokenLogprob, token_logprob
from qianwen.engine.scheduler import Chunk, Scheduler
from qianwen.engine.sequence import Sequence, Status
from qianwen.engine.speculate import DraftModel, PromptLookup, Speculator, can_guess, verify
from qianwen.engine.text_limits import TextLimits, model_limit
from qianwen.model.fused_layers import fused_layers
from qianwen.model.linears.adapter_bank import AdapterBank
from qianwen.model.long_context import AS_CONFIGURED, LongContext
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import free_memory_bytes
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

END_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # a model that opens a turn has ended its own


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Sizes and modes of an engine. The defaults suit two CPU cores."""

    max_model_len: int = 0  # Maximum number of tokens of prompt and answer. 0: the limit of the model, or what fits.
    extension: LongContext = AS_CONFIGURED  # How requests that choose nothing else extend the trained length.
    max_num_seqs: int = 16  # Maximum number of answers that run at the same time.
    max_num_batched_tokens: int = 512  # Maximum number of tokens in a step. Limits how long a prompt delays answers.
    block_size: int = 32  # Tokens in a block of the cache.
    num_blocks: int = 0  # Blocks of the cache. 0: enough for max_num_seqs · 2,048 tokens, at least one full context.
    memory_share: float = 0.8  # Part of the free memory that the cache may take, unless num_blocks is given.
    kv_cache_dtype: CacheDtype = "auto"  # auto: the type of the weights. int8: half the memory of bfloat16, but slower.
    fused_attention: bool = True  # Use the C++ attention kernel if it supports this machine.
    prefix_caching: bool = True  # Reuse the keys and values of prompts with the same beginning.
    batch_invariant: bool = False  # The bits of an answer do not depend on other requests; slower.
    num_speculative_tokens: int = 0  # Draft tokens in a step, from the draft model, else from prompt lookup. 0: none.


@dataclass(frozen=True)
class Output:
    """What a step added to one answer. The last output of an answer has a `finish_reason`."""

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    embedding: np.ndarray | None = None  # [H], with norm 1


def _unit(vector: np.ndarray) -> np.ndarray:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def _extension(request: Request) -> LongContext | None:
    """What limits the length of a request; None if it has a rotation of its own."""
    return request.extension if request.context.rope is None else None


class LLMEngine:
    """Runs requests: `add_request`, `step`, `abort`."""

    def __init__(
        self,
        model: Qwen,
        tokenizer: Tokenizer,
        config: EngineConfig | None = None,
        draft_model: Qwen | None = None,
        end_ids: Iterable[int] = (),
    ) -> None:
        self.tokenizer, self.config = tokenizer, config or EngineConfig()
        config, shape = self.config, model.config
        check_default(config.extension, config.batch_invariant)
        fused_layers(model, is_invariant=config.batch_invariant)  # built now, so that the first request does not wait
        size, windows = config.block_size, shape.distinct_windows
        context = self._context_size(model)
        self.num_blocks = config.num_blocks or -(-context.cached_tokens // size)
        self.max_model_len = min(context.max_model_len, self.num_blocks * size)
        self.limits = TextLimits(shape, config.extension, self.max_model_len)
        self.context_note = context.note or self.limits.context_note(config.max_model_len)
        counts = self._block_counts(windows, self.num_blocks)
        is_fused, is_invariant = config.fused_attention, config.batch_invariant
        cache = new_cache(model, counts, size, config.kv_cache_dtype, is_fused=is_fused, is_invariant=is_invariant)
        tile = invariant_tile(model, cache.kernel is not None) if is_invariant else 0
        self.runner = ModelRunner(model, cache, min(tokenizer.vocab_size, shape.vocab_size), tile)
        ends = (tokenizer.special_tokens.get(name) for name in END_TOKENS)
        self.end_ids = frozenset((*end_ids, *(end for end in ends if end is not None)))
        self.blocks = BlockManager(counts, size, config.prefix_caching, windows, self.end_ids)
        self.scheduler = Scheduler(self.blocks, config.max_num_seqs, config.max_num_batched_tokens)
        self.growth = Growth(shape, self.scheduler, cache)
        self.speculator = self._new_speculator(draft_model)
        self._requests: dict[str, list[Sequence]] = {}
        self._siblings: dict[str, list[Sequence]] = {}  # answers that wait until the first one has read the prompt
        self._names = itertools.count()

    def _context_size(self, model: Qwen) -> ContextSize:
        """The longest text, as far as it fits in memory unless the number of blocks is given."""
        config, shape = self.config, model.config
        limit = model_limit(shape, config.extension, config.max_model_len)
        if config.num_blocks:
            return ContextSize(limit, 0)
        windows = [shape.window(layer) for layer in range(shape.num_hidden_layers)]
        block_bytes = token_bytes(model, config.kv_cache_dtype) * config.block_size

        def cache_bytes(num_tokens: int) -> int:
            counts = self._block_counts(shape.distinct_windows, -(-num_tokens // config.block_size))
            layers = map(windows.count, shape.distinct_windows)
            return sum(count * number * block_bytes for count, number in zip(counts, layers, strict=True))

        free = config.memory_share * free_memory_bytes(model.model.norm.weight.device)
        return context_size(config.max_model_len, limit, config.max_num_seqs, cache_bytes=cache_bytes, free=free)

    def _block_counts(self, windows: Ids[int], num_blocks: int) -> list[int]:
        config = self.config
        return blocks_of_kinds(
            windows, num_blocks, config.block_size, config.max_num_seqs, config.max_num_batched_tokens
        )

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter folder in PEFT's format as `name`. CheckpointError if it cannot share the base model."""
        if self.runner.bank is None:
            self.runner.bank = AdapterBank(self.runner.model, is_invariant=self.config.batch_invariant)
            self.runner.tile = INVARIANT_TILE if self.config.batch_invariant else 0
        self.runner.bank.add(name, read_adapter(self.runner.model, folder))

    def add_request(self, request: Request, request_id: str | None = None) -> str:
        """Queue a request and return its id. RequestError if the request is not valid."""
        self.check_request(request)
        params = request.params
        request_id = request_id or f"request-{next(self._names)}"
        if request_id in self._requests:
            raise RequestError(tr("request {id!r} is already running: choose another id", id=request_id))
        unscored = replace(request, score_from=None, pooling=None)  # only the first answer reports scores of the prompt
        stop = StopStrings(params.stop)
        seqs = [
            Sequence(
                request_id,
                index,
                unscored if index else request,
                Sampler(params, request.tokens, index),
                Detokenizer(self.tokenizer, stop),
            )
            for index in range(params.n)
        ]
        for seq in seqs:
            self.growth.begin(seq)
        self._requests[request_id], self._siblings[request_id] = seqs, seqs[1:]
        self.scheduler.add(seqs[0])
        return request_id

    def check_request(self, request: Request) -> None:
        """RequestError if a request is not valid. Safe to call from any thread."""
        check_tokens(request.tokens, request.params, self.runner.vocab_size)
        self.limits.check(len(request.tokens), int(request.params.max_tokens != 0), _extension(request))
        check_features(request, self.runner.model.config.hidden_size)
        check_growth(request, self.config.batch_invariant)
        adapter = request.context.adapter
        if adapter and (self.runner.bank is None or adapter not in self.runner.bank.names):
            known = ", ".join(self.runner.bank.names) if self.runner.bank else "-"
            raise RequestError(
                tr("there is no adapter {name!r}; loaded: {known}", name=adapter, known=known), param="adapter"
            )

    def abort(self, request_id: str) -> None:
        """Stop a request and free its blocks now. Does nothing if the request has ended."""
        waiting = self._siblings.pop(request_id, [])
        for seq in self._requests.pop(request_id, []):
            if seq not in waiting:
                self._end(seq, "abort")

    def reset(self) -> None:
        """Empty the cache, after a change of the weights or a step that failed; running requests recompute."""
        self.scheduler.restart()

    def step(self) -> list[Output]:
        """Compute one batch and return what it added to each answer."""
        chunks = self.scheduler.schedule()
        if not chunks:
            return []
        try:
            scores = self.runner.run(chunks)
        except BaseException:  # also Ctrl-C: only some layers may have stored their keys and values
            self.reset()
            raise
        outputs = []
        for chunk, rows in zip(chunks, scores, strict=True):
            if len(rows):
                outputs.append(self._advance(chunk.seq, rows))
            # the newest token has no keys yet; rejected draft tokens have, and the next step overwrites them
            self.scheduler.complete(chunk.seq, min(chunk.end, chunk.seq.num_tokens - (len(rows) > 0)))
            self.growth.follow(chunk.seq)
        if self.speculator:
            self._guess(chunks)
        return outputs

    def _advance(self, seq: Sequence, rows: np.ndarray) -> Output:
        """Choose the next tokens of `seq` from its rows of scores; finish the sequence if they end it."""
        tokens, logprobs, text = [], [], ""
        reason: FinishReason | None = None
        for token, row in self._choose(seq, rows):
            tokens.append(token)
            seq.token_ids.append(token)
            seq.sampler.accept(token)
            if seq.params.logprobs is not None or seq.params.logprob_token_ids:
                wanted = seq.params.logprob_token_ids
                logprobs.append(token_logprob(row, token, seq.params.logprobs or 0, wanted))
            is_end = token in seq.params.stop_token_ids or (token in self.end_ids and not seq.params.ignore_eos)
            text += "" if is_end else seq.detokenizer.add(token)
            reason = "stop" if is_end or seq.detokenizer.is_stopped else self._limit(seq)
            if reason:
                break
        seq.draft, seq.draft_dists = [], []
        self._release_siblings(seq)
        if reason or not tokens:
            reason = reason or "length"
            text += seq.detokenizer.finish()
            self._finish(seq, reason)
        usage = Usage(seq.num_prompt_tokens, seq.num_output_tokens, seq.num_cached_tokens)
        scored = tuple(seq.prompt_logprobs) if reason else ()
        vector = _unit(seq.pooled) if reason and seq.pooled is not None else None
        return Output(seq.request_id, seq.index, text, tuple(tokens), usage, tuple(logprobs), reason, scored, vector)

    def _choose(self, seq: Sequence, rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Each next token with the scores it was chosen from; empty if the request generates nothing (max_tokens 0)."""
        if seq.params.max_tokens == 0:
            return []
        return verify(rows, seq) if seq.draft else [(seq.sampler.choose(rows[0]), rows[0])]

    def _new_speculator(self, draft_model: Qwen | None) -> Speculator | None:
        count = self.config.num_speculative_tokens
        if not count:
            return None
        if draft_model is None:
            return PromptLookup(count)
        pool = {"num_blocks": self.num_blocks, "block_size": self.blocks.block_size}
        return DraftModel(draft_model, self.runner.vocab_size, count, **pool, max_len=self.max_model_len)

    def _guess(self, chunks: list[Chunk]) -> None:
        """Propose draft tokens for the sequences that generate, up to their limits of length."""
        seqs = [chunk.seq for chunk in chunks if chunk.seq.status is Status.RUNNING]
        seqs = [seq for seq in seqs if seq.num_new_tokens == 1 and can_guess(seq)]
        rooms = [int(min(self._room(seq) - 1, seq.state_end - seq.num_tokens)) for seq in seqs]
        assert self.speculator
        self.speculator.propose(seqs, rooms)

    def _room(self, seq: Sequence) -> int:
        """Number of tokens that `seq` may still generate."""
        room = self.limits.longest(_extension(seq.request)) - seq.num_tokens
        return room if seq.params.max_tokens is None else min(room, seq.params.max_tokens - seq.num_output_tokens)

    def _limit(self, seq: Sequence) -> FinishReason | None:
        return "stop" if seq.sampler.is_finished else "length" if self._room(seq) <= 0 else None

    def _release_siblings(self, seq: Sequence) -> None:
        """Queue the other answers of the request: the prompt is in the cache now, and they can share it."""
        for sibling in self._siblings.pop(seq.request_id, []):
            self.scheduler.add(sibling)

    def _finish(self, seq: Sequence, reason: FinishReason) -> None:
        self._end(seq, reason)
        if all(each.status is Status.FINISHED for each in self._requests[seq.request_id]):
            del self._requests[seq.request_id]

    def _end(self, seq: Sequence, reason: FinishReason) -> None:
        self.scheduler.finish(seq, reason)
        if self.speculator:
            self.speculator.remove(seq)
