"""The state that the routes share: models by name, admission, store and metrics; and its shutdown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from qianwen.chat.functions import FunctionFormat
from qianwen.checkpoints.generation_config import SAMPLING
from qianwen.checkpoints.recommended_sampling import Recommended
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.text_limits import TextLimits
from qianwen.model.long_context import LongContext
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.admission import Admission, answer_limit
from qianwen.serve.bridge import Bridge
from qianwen.serve.gate import ANONYMOUS
from qianwen.serve.guard import Guard
from qianwen.serve.prometheus import Metrics
from qianwen.serve.store import Key, Store
from qianwen.tokenizer.tokenizer import Tokenizer

ABORT_SECONDS = 2.0  # to send the error to clients whose requests were aborted


@dataclass(frozen=True)
class Served:
    """A model and the name under which clients call it."""

    name: str
    bridge: Bridge
    tokenizer: Tokenizer
    context: int  # largest number of tokens of prompt and answer
    defaults: SamplingParams = field(default_factory=SamplingParams)
    adapter: str = ""  # name of the LoRA adapter in the engine; empty: none
    parent: str | None = None  # name of the base model of that adapter
    recommended: Recommended = Recommended()  # where `defaults` are from
    source: str = ""  # MODEL, as it was given; empty if it is not known
    function_style: FunctionFormat | None = None  # how functions are written where a request does not say it

    @property
    def limits(self) -> TextLimits:
        return self.bridge.engine.limits

    @property
    def extension(self) -> LongContext:
        """How a request that chooses nothing else extends the trained length."""
        return self.limits.extension

    def answer_limit(self, num_prompt_tokens: int, max_tokens: int | None, extension: LongContext) -> int:
        """The largest number of tokens of an answer. RequestError if prompt and answer are too long."""
        context = min(self.context, self.limits.longest(extension))
        return answer_limit(num_prompt_tokens, max_tokens, context, self.limits.with_remedy)

    def card(self, created: int) -> dict[str, Any]:
        """The entry of `/v1/models`."""
        card: dict[str, Any] = {"id": self.name, "object": "model", "created": created, "owned_by": "qianwen"}
        sampling = {name: getattr(self.defaults, name) for name in SAMPLING} | {"source": self.recommended.source}
        card |= {"max_model_len": self.context, "train_len": self.limits.config.train_len, "rope": self.limits.method}
        card |= {"parent": self.parent, "sampling": sampling}
        if self.recommended.without_thinking != self.recommended.sampling:
            card["sampling_without_thinking"] = dict(self.recommended.without_thinking)
        return card


class Service:
    """The served models, with one admission control, one store and one set of metrics."""

    def __init__(
        self, models: Sequence[Served], admission: Admission, store: Store | None = None, guard: Guard | None = None
    ) -> None:
        self.models = {served.name: served for served in models}
        # adapters share the bridge of their base model, so each bridge is listed once
        self.bridges = list({id(served.bridge): served.bridge for served in models}.values())
        self.admission, self.store, self.guard = admission, store, guard
        self.started = int(time.time())
        self.metrics = Metrics()
        self.metrics.gauge("requests_in_flight", lambda: admission.requests)
        self.metrics.gauge("tokens_in_flight", lambda: admission.tokens)
        self.metrics.gauge("sequences_running", lambda: self._sum(lambda bridge: len(bridge.engine.scheduler.running)))
        self.metrics.gauge("sequences_waiting", lambda: self._sum(lambda bridge: len(bridge.engine.scheduler.waiting)))
        self.metrics.gauge("preemptions", lambda: self._sum(lambda bridge: bridge.engine.scheduler.num_preemptions))
        self.metrics.gauge("rereads", lambda: self._sum(lambda bridge: bridge.engine.scheduler.num_rereads))
        self.metrics.gauge("kv_blocks", lambda: self._sum(lambda bridge: bridge.engine.blocks.num_blocks))
        self.metrics.gauge("kv_blocks_used", lambda: self._sum(_blocks_used))

    def model(self, name: str | None) -> Served:
        """The model called `name`; None means the first model. An unknown name is a 404 with the list of models."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            message = tr(
                "there is no model {name!r}; this server has: {names}", name=name[:80], names=", ".join(self.models)
            )
            raise RequestError(message, status=404, param="model", code="model_not_found")
        return self.models[name]

    def add(self, served: Served) -> None:
        """Serve one more model or adapter."""
        self.models[served.name] = served
        if served.bridge not in self.bridges:
            self.bridges.append(served.bridge)

    def remove(self, name: str) -> Bridge:
        """Stop serving a model and its adapters; returns its bridge, to be closed by the caller."""
        bridge = self.models[name].bridge
        for each in [each for each, served in self.models.items() if served.bridge is bridge]:
            del self.models[each]
        self.bridges.remove(bridge)
        return bridge

    @property
    def is_healthy(self) -> bool:
        return all(bridge.failure is None for bridge in self.bridges)

    def record_usage(self, key: Key, usage: dict[str, Any], model: str = "") -> None:
        """Add the tokens of a request to the metrics and to the usage of its key."""
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        self.metrics.count("prompt_tokens_total", prompt, model=model)
        self.metrics.count("prompt_tokens_cached_total", cached, model=model)
        self.metrics.count("completion_tokens_total", completion, model=model)
        if self.store is not None and key is not ANONYMOUS:
            self.store.add_usage(key.name, prompt_tokens=prompt, completion_tokens=completion)

    async def drain(self) -> bool:
        """Accept no new requests, wait up to `drain_seconds` for running ones, then abort the rest with a 503.

        False if some clients have not read even that error.
        """
        self.admission.draining = True
        if await self._is_empty_within(self.admission.limits.drain_seconds):
            return True
        reason = RequestError(
            tr("the server is shutting down; send the request again later"), status=503, code="draining"
        )
        for bridge in self.bridges:
            bridge.abort_all(reason)
        return await self._is_empty_within(ABORT_SECONDS)

    async def _is_empty_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.admission.requests and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return not self.admission.requests

    def close(self) -> None:
        """Stop the engines; requests that still wait get an error."""
        for bridge in self.bridges:
            bridge.close()
        if self.store is not None:
            self.store.close()

    def _sum(self, read: Callable[[Bridge], int]) -> int:
        return sum(map(read, self.bridges))


def _blocks_used(bridge: Bridge) -> int:
    return bridge.engine.blocks.num_blocks - bridge.engine.blocks.num_free_blocks
