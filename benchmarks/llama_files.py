"""llama.cpp's own rounding of a GGUF file, and its greedy answers; asked line by line.

    llama_files.py        run by the Python of an environment with llama-cpp-python

Reads `{"op": "quantize", "source": FILE, "target": FILE, "type": "Q4_K_M"}` and
`{"op": "answer", "model": FILE, "prompts": [[ids], …], "new": 16}`; answers `{}` and `{"ids": [[ids], …]}`. Imports
nothing of this project.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import islice
from typing import Any

import llama_cpp

CONTEXT = 512


def rounded(request: dict[str, Any]) -> dict[str, Any]:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{request['type']}")
    params.nthread = os.cpu_count() or 1
    failed = llama_cpp.llama_model_quantize(request["source"].encode(), request["target"].encode(), params)
    assert not failed, "llama_model_quantize failed"
    return {}


def answered(request: dict[str, Any]) -> dict[str, Any]:
    llama = llama_cpp.Llama(model_path=request["model"], n_ctx=CONTEXT, n_threads=os.cpu_count(), verbose=False)
    answers = []
    for prompt in request["prompts"]:
        llama.reset()
        answers.append(list(islice(llama.generate(prompt, temp=0.0, repeat_penalty=1.0), request["new"])))
    return {"ids": answers}


def main() -> None:
    # llama.cpp prints to the standard output; the answers must be alone there.
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"systemInfo": llama_cpp.llama_print_system_info().decode()}), file=output, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"quantize": rounded, "answer": answered}[request["op"]](request)
        print(json.dumps(answer), file=output, flush=True)


if __name__ == "__main__":
    main()
