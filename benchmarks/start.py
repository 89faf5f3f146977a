"""What a user waits for: from the command to the first token of `qianwen chat`, and the first conversion of a file.

    python benchmarks/start.py --model FILE.gguf [--bits stored] [--quick]

Each run is a new process, `echo hi | qianwen chat MODEL`, timed from its start to the first byte of the answer. The
first is given an empty cache, so it compiles the kernels and packs the weights; what it says meanwhile is noted. The
rest find the packed copy, which is checked while it is read. There is no peer: the bounds are seconds.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pairs import Pairs, Report, arguments

FIRST_TOKEN, CONVERSION = 4.0, 20.0  # seconds allowed
RUNS = 5


def chat(model: str, bits: str, cache: Path) -> tuple[float, float, str]:
    """Seconds to the first byte of the answer and to the end, and what the command said while it loaded."""
    command = [sys.executable, "-m", "qianwen", "chat", model, "--bits", bits, "--max-tokens", "8"]
    leader, follower = pty.openpty()  # a terminal to show progress on; the question and the answer go through pipes
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=follower,
        env=os.environ | {"QIANWEN_CACHE": str(cache)},
    )
    os.close(follower)
    assert process.stdin and process.stdout
    process.stdin.write(b"hi\n")
    process.stdin.close()
    first_byte = process.stdout.read(1)
    first = time.perf_counter() - began
    process.stdout.read()
    if process.wait() or not first_byte:
        raise SystemExit(f"{' '.join(command)} failed")
    return first, time.perf_counter() - began, said(leader)


def said(leader: int) -> str:
    """Everything that was written to the terminal, without its control codes, the last state of each line."""
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(leader)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode("utf-8", "replace"))
    return " | ".join(line.rpartition("\r")[2].strip() for line in plain.splitlines() if line.strip())


def main() -> None:
    options = arguments(__doc__, model="", bits="stored")
    if not options.model:
        raise SystemExit("--model names a GGUF file")
    report = Report(f"starting on {Path(options.model).name}: seconds allowed over seconds taken", "1/s")
    with tempfile.TemporaryDirectory() as folder:
        _, first, progress = chat(options.model, options.bits, Path(folder))  # what it says of packing comes first
        report.note("whole answer with an empty cache (s)", round(first, 2))
        report.note("messages while loading", progress)
        packed = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
        report.note("packed copy (MB)", packed // 10**6)
        later = [chat(options.model, options.bits, Path(folder))[0] for _ in range(2 if options.quick else RUNS)]
    report.note("first token once converted (s)", [round(seconds, 2) for seconds in later])
    report.add("first token", Pairs([1 / seconds for seconds in later], [1 / FIRST_TOKEN] * len(later)))
    report.add("first conversion", Pairs([1 / first], [1 / CONVERSION]))
    ratios = {name.replace(" ", "_"): pairs.ratio for name, pairs in report.rows.items()}
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
