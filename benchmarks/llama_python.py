"""llama.cpp or ik_llama.cpp through its Python bindings, asked line by line as `llama_cpp.mjs` is.

    llama_python.py llama_cpp|ik_llama_cpp FILE.gguf 0|1 CONTEXT   run by a peer's own Python; flash attention off or on

Reads `{"op": "prefill", "prompt": [ids]}`, `{"op": "decode", "prompt": [ids], "new": 64}` and `{"op": "answer", …}`.
The first two answer seconds and tokens, the last the ids of a greedy answer.
Decoding reads the prompt first if the cache does not begin with it, which is not measured. It feeds given tokens one at
a time: choosing them is not measured either. Imports nothing of this project.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
import time
from typing import Any

THREADS, BATCH = 2, 512


class LlamaCpp:
    """llama-cpp-python."""

    def __init__(self, path: str, flash: bool, context: int) -> None:
        self.module = importlib.import_module("llama_cpp")
        sizes = {"n_ctx": context, "n_batch": BATCH, "n_threads": THREADS, "n_threads_batch": THREADS}
        self.llama = self.module.Llama(model_path=path, flash_attn=flash, verbose=False, **sizes)
        self.about, self.vocab_size = self.module.llama_print_system_info().decode(), self.llama.n_vocab()

    def cut(self, length: int) -> None:
        self.llama.n_tokens = length  # the next call forgets what is behind

    def read(self, tokens: list[int], start: int) -> None:
        self.llama.eval(tokens)

    def logits(self) -> Any:
        return self.module.llama_get_logits_ith(self.llama.ctx, -1)


class IkLlamaCpp:
    """ik-llama-cpp-python, whose wrapper switches flash attention off where it cannot tell the processor."""

    def __init__(self, path: str, flash: bool, context: int) -> None:
        self.wrapper = importlib.import_module("ik_llama_cpp._internals")
        self.api = importlib.import_module("ik_llama_cpp._ctypes_api")
        self.model = self.wrapper.IkModel(path)
        self.context = self.wrapper.IkContext(self.model, n_ctx=context, n_threads=THREADS, flash_attn=flash)
        self.about, self.vocab_size = "ik_llama.cpp", self.model.n_vocab
        self.remove = self.api._lib.llama_kv_cache_seq_rm  # not in the wrapper
        self.remove.argtypes, self.remove.restype = [ctypes.c_void_p, *[ctypes.c_int32] * 3], ctypes.c_bool

    def cut(self, length: int) -> None:
        assert self.remove(self.context.ctx, -1, length, -1), "llama_kv_cache_seq_rm failed"

    def read(self, tokens: list[int], start: int) -> None:
        batch = self.wrapper.make_batch_range(tokens, pos_start=start, logits_last=True)
        failed = self.context.decode(batch)
        self.api.llama_batch_free(batch)
        assert not failed, "llama_decode failed"

    def logits(self) -> Any:
        return self.context.get_logits(-1)


class Session:
    """A peer and the tokens in its cache."""

    def __init__(self, peer: LlamaCpp | IkLlamaCpp) -> None:
        self.peer, self.cached = peer, list[int]()

    def read(self, tokens: list[int]) -> float:
        """Seconds of reading tokens behind those in the cache."""
        began = time.perf_counter()
        self.peer.read(tokens, len(self.cached))
        self.cached += tokens
        return time.perf_counter() - began

    def hold(self, prompt: list[int]) -> None:
        """Make `prompt` all that is in the cache."""
        is_cached = self.cached[: len(prompt)] == prompt
        self.cached = self.cached[: len(prompt)] if is_cached else []
        self.peer.cut(len(self.cached))
        if not is_cached:
            self.read(prompt)

    def prefill(self, prompt: list[int]) -> dict[str, Any]:
        self.hold([])
        return {"seconds": self.read(prompt), "tokens": len(prompt)}

    def decode(self, prompt: list[int], new: int) -> dict[str, Any]:
        self.hold(prompt)
        return {"seconds": sum(self.read([prompt[index % len(prompt)]]) for index in range(new)), "tokens": new}

    def answer(self, prompt: list[int], new: int) -> dict[str, Any]:
        """Greedy; the last token of the prompt is read again for its logits."""
        self.hold(prompt[:-1])
        ids = prompt[-1:]
        while len(ids) <= new:
            self.read(ids[-1:])
            logits = self.peer.logits()
            ids.append(max(range(self.peer.vocab_size), key=lambda token: logits[token]))
        return {"ids": ids[1:]}


def main() -> None:
    name, path, flash, context = sys.argv[1:]
    peer = {"llama_cpp": LlamaCpp, "ik_llama_cpp": IkLlamaCpp}[name](path, flash == "1", int(context))
    print(json.dumps({"systemInfo": peer.about}), flush=True)
    session = Session(peer)
    for line in sys.stdin:
        request = json.loads(line)
        operation = getattr(session, request.pop("op"))
        print(json.dumps(operation(**request)), flush=True)


if __name__ == "__main__":
    main()
