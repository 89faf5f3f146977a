"""Serve the model of a run beside the models of the command line, on request: "talk to this run".

An adapter whose base is served already shares its weights. Any other model is loaded, if it fits the free memory. At
most MAX_LOADED such models stay; the oldest one without requests makes room for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qianwen.checkpoints.adapter_folder import is_adapter
from qianwen.checkpoints.load import base_model, find_model, open_model
from qianwen.runtime import runs
from qianwen.runtime.device import best_device, free_memory_bytes
from qianwen.runtime.errors import ConfigError, QianwenError, RequestError
from qianwen.runtime.files import RunFolder
from qianwen.runtime.translation import tr
from qianwen.serve.service import Served, Service
from qianwen.train.plan import memory

MAX_LOADED = 2
WINDOW = 2048  # tokens of an answer and its prompt, for the check of the memory

Load = Callable[[str, str], Served]  # name, MODEL → a model that is ready to answer


class RunModels:
    """The models of runs that a service serves. All calls are made on the event loop of the server."""

    def __init__(self, service: Service, load: Load) -> None:
        self._service, self._load = service, load
        self._loaded: list[str] = []  # names of the models loaded here, the oldest first; without adapters
        self._lock = asyncio.Lock()

    async def serve(self, label: str) -> str:
        """Serve the model of the run called `label`, and return the name under which clients call it."""
        async with self._lock:
            if label in self._service.models:
                return label
            path = model_path(find(label))
            if path is None:
                raise RequestError(tr("the run {name} has no model yet", name=label), status=409)
            served = await self._as_adapter(label, path) or await self._as_model(label, path)
            self._service.add(served)
            return label

    async def _as_adapter(self, label: str, path: Path) -> Served | None:
        """The adapter over a served base; None if it is no adapter, or cannot share the weights of its base."""
        if not is_adapter(path):
            return None
        try:
            weights = base_model(path)
            bases = [s for s in self._service.models.values() if s.source and not s.adapter]
            base = next((served for served in bases if find_model(served.source) == weights), None)
            if base is None:
                return None
            await base.bridge.call(lambda: base.bridge.engine.add_adapter(label, path))
        except QianwenError:
            return None
        return replace(base, name=label, adapter=label, parent=base.name, source=str(path))

    async def _as_model(self, label: str, path: Path) -> Served:
        await self._make_room()
        config = (await asyncio.to_thread(open_model, str(path))).config
        need = memory(config, "generate", min(WINDOW, config.max_position_embeddings), bits=16).total
        free = free_memory_bytes(best_device())
        if need > free:
            message = "the model of {name} needs about {need:.1f} GB, but {free:.1f} GB is free"
            raise RequestError(tr(message, name=label, need=need / 1e9, free=free / 1e9), status=507)
        served = await asyncio.to_thread(self._load, label, str(path))
        self._loaded.append(label)
        return served

    async def _make_room(self) -> None:
        if len(self._loaded) < MAX_LOADED:
            return
        models = self._service.models
        idle = next((name for name in self._loaded if not models[name].bridge.engine.has_work), None)
        if idle is None:
            message = "{count} models of runs are served and busy; try again when their answers have ended"
            raise RequestError(tr(message, count=len(self._loaded)), status=409)
        self._loaded.remove(idle)
        await asyncio.to_thread(self._service.remove(idle).close)


def find(label: str) -> RunFolder:
    """The run with this label in the list of runs; a path is never looked up. RequestError 404 if there is none."""
    run = next((each for each in runs.all_runs() if runs.label(each) == label), None)
    if run is None:
        raise RequestError(tr("there is no run {name}", name=label[:80]), status=404)
    return run


def model_path(run: RunFolder) -> Path | None:
    """The folder of the model or adapter that a run has written, or None."""
    try:
        return find_model(str(run.path))
    except (ConfigError, OSError):
        return None
