"""llama.cpp or ik_llama.cpp through its Python bindings, asked line by line as `llama_cpp.mjs` is.

    llama_python.py llama_cpp|ik_llama_cpp FILE.gguf [0|1]        run by a peer's own Python; flash attention off or on

Reads `{"op": "prefill", "prompt": [ids]}` and `{"op": "decode", "prompt": [ids], "new": 64}`.
Answers seconds and tokens.
Decoding feeds given tokens one at a time: choosing them is not what is measured. Imports nothing of this project.
"""

from __future__ import annotations

import importlib
import json
import sys
import time

THREADS, CONTEXT, BATCH = 2, 1024, 512


class LlamaCpp:
    """llama-cpp-python."""

    def __init__(self, path: str, flash: bool) -> None:
        module = importlib.import_module("llama_cpp")
        sizes = {"n_ctx": CONTEXT, "n_batch": BATCH, "n_threads": THREADS, "n_threads_batch": THREADS}
        self.llama = module.Llama(model_path=path, flash_attn=flash, verbose=False, **sizes)
        self.about = module.llama_print_system_info().decode()

    def clear(self) -> None:
        self.llama.reset()

    def read(self, tokens: list[int], start: int) -> None:
        self.llama.eval(tokens)


class IkLlamaCpp:
    """ik-llama-cpp-python, whose wrapper switches flash attention off where it cannot tell the processor."""

    def __init__(self, path: str, flash: bool) -> None:
        self.wrapper = importlib.import_module("ik_llama_cpp._internals")
        self.api = importlib.import_module("ik_llama_cpp._ctypes_api")
        self.model = self.wrapper.IkModel(path)
        self.context = self.wrapper.IkContext(self.model, n_ctx=CONTEXT, n_threads=THREADS, flash_attn=flash)
        self.about = "ik_llama.cpp"

    def clear(self) -> None:
        self.context.kv_cache_clear()

    def read(self, tokens: list[int], start: int) -> None:
        batch = self.wrapper.make_batch_range(tokens, pos_start=start, logits_last=True)
        failed = self.context.decode(batch)
        self.api.llama_batch_free(batch)
        assert not failed, "llama_decode failed"


def main() -> None:
    name, path, flash = sys.argv[1], sys.argv[2], sys.argv[3:] == ["1"]
    peer = {"llama_cpp": LlamaCpp, "ik_llama_cpp": IkLlamaCpp}[name](path, flash)
    print(json.dumps({"systemInfo": peer.about}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        prompt, new = request["prompt"], request.get("new", 0)
        peer.clear()
        if request["op"] == "prefill":
            began = time.perf_counter()
            peer.read(prompt, 0)
            answer = {"seconds": time.perf_counter() - began, "tokens": len(prompt)}
        else:
            peer.read(prompt, 0)
            began = time.perf_counter()
            for index in range(new):
                peer.read([prompt[index % len(prompt)]], len(prompt) + index)
            answer = {"seconds": time.perf_counter() - began, "tokens": new}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
