"""What the routes share: the models by name, room, memory, measurements, and how all of it starts and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qianwen.engine.params import SamplingParams
from qianwen.runtime.errors import RequestError
from qianwen.runtime.language import tr
from qianwen.serve.admission import Admission
from qianwen.serve.bridge import Bridge
from qianwen.serve.gate import ANONYMOUS
from qianwen.serve.guard import Guard
from qianwen.serve.metrics import Metrics
from qianwen.serve.store import Key, Store
from qianwen.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Served:
    """One model that answers under a name."""

    name: str
    bridge: Bridge
    tokenizer: Tokenizer
    context: int  # tokens of prompt and answer
    defaults: SamplingParams = field(default_factory=SamplingParams)


class Service:
    """One process: some models, one admission, one store."""

    def __init__(
        self, models: Sequence[Served], admission: Admission, store: Store | None = None, guard: Guard | None = None
    ) -> None:
        self.models = {served.name: served for served in models}
        self.admission, self.store, self.guard = admission, store, guard
        self.metrics = Metrics()
        self.metrics.gauge("requests_in_flight", lambda: admission.requests)
        self.metrics.gauge("tokens_in_flight", lambda: admission.tokens)
        self.metrics.gauge("sequences_running", lambda: self._engine_sum("running"))
        self.metrics.gauge("sequences_waiting", lambda: self._engine_sum("waiting"))
        self.metrics.gauge("kv_blocks_used", lambda: sum(self._blocks_used(served) for served in models))

    def model(self, name: str | None) -> Served:
        """The model called `name`; without a name the only or first one. A 404 lists those there are."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            message = tr(
                "there is no model {name!r} here; there are: {names}", name=name[:80], names=", ".join(self.models)
            )
            raise RequestError(message, status=404, param="model", code="model_not_found")
        return self.models[name]

    @property
    def is_healthy(self) -> bool:
        return all(served.bridge.failure is None for served in self.models.values())

    def book(self, key: Key, usage: dict[str, Any]) -> None:
        """Add what a request used to the metrics and to its key's account."""
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        self.metrics.count("prompt_tokens_total", prompt)
        self.metrics.count("completion_tokens_total", completion)
        if self.store is not None and key is not ANONYMOUS:
            self.store.add_usage(key.name, prompt_tokens=prompt, completion_tokens=completion)

    async def drain(self) -> None:
        """Take nobody in, and wait for those inside as long as the limits allow."""
        self.admission.draining = True
        try:
            async with asyncio.timeout(self.admission.limits.drain_seconds):
                while self.admission.requests:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.metrics.count("requests_cut_off_total", self.admission.requests)

    def close(self) -> None:
        """Stop the engines; who still waits gets an error."""
        for served in self.models.values():
            served.bridge.close()
        if self.store is not None:
            self.store.close()

    def _engine_sum(self, queue: str) -> int:
        return sum(len(getattr(served.bridge.engine.scheduler, queue)) for served in self.models.values())

    @staticmethod
    def _blocks_used(served: Served) -> int:
        blocks = served.bridge.engine.blocks
        return blocks.num_blocks - blocks.num_free_blocks
