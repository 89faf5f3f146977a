"""A server under 1, 4, 16 and 64 clients beside llama.cpp's, same prompts, closed loop.

    python benchmarks/serving.py --model FILE.gguf [--bits 4] [--quick]

Every client sends a prompt of 128 tokens of real text, takes exactly 128 new tokens, and sends the next one. After a
warm-up the events of a minute are counted, one a token (we hold some back until a character is whole, so we are counted
a little low). llama.cpp answers through `node-llama-cpp` with 16 sequences behind a small HTTP server
(`llama_server.mjs`). Both servers run at once but only one is asked at a time.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from pairs import Pairs, Report, arguments

HERE = Path(__file__).parent
PROMPT, NEW = 128, 128


@dataclass
class Load:
    """What one round of closed-loop clients saw."""

    tokens: int = 0
    first: list[float] = field(default_factory=list)  # seconds to the first token
    between: list[float] = field(default_factory=list)  # seconds between tokens, mean of a request

    def quantile(self, values: list[float], share: float) -> float:
        return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else float("nan")


def texts(count: int) -> list[str]:
    """Real English text of about 128 tokens each: docstrings and comments of Python's own library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    prose = " ".join(path.read_text("utf-8", "replace") for path in sorted(library.glob("*.py"))[:120])
    words = re.sub(r"\s+", " ", prose).split(" ")
    starts = random.Random(0).sample(range(len(words) - 200), count)
    return [" ".join(words[start : start + 90]) for start in starts]


async def client(http: httpx.AsyncClient, url: str, prompts: list[str], load: Load, counting: list[bool]) -> None:
    """One client: stream an answer, note its times, ask again."""
    while True:
        body = {"model": "bench", "prompt": random.choice(prompts), "max_tokens": NEW, "temperature": 0}
        body |= {"ignore_eos": True, "stream": True}
        began, first, count = time.perf_counter(), 0.0, 0
        async with http.stream("POST", f"{url}/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    count += 1
                    first = first or time.perf_counter()
                    load.tokens += counting[0]
        if counting[0] and count > 1:
            load.first.append(first - began)
            load.between.append((time.perf_counter() - first) / (count - 1))


async def ask(url: str, num_clients: int, prompts: list[str], warm_up: float, seconds: float) -> Load:
    """Tokens of `num_clients` clients in `seconds`, after `warm_up`."""
    load, counting = Load(), [False]
    limits = httpx.Limits(max_connections=num_clients)
    async with httpx.AsyncClient(timeout=600, trust_env=False, limits=limits) as http:
        tasks = [asyncio.create_task(client(http, url, prompts, load, counting)) for _ in range(num_clients)]
        await asyncio.sleep(warm_up)
        counting[0] = True
        await asyncio.sleep(seconds)
        counting[0] = False
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return load


def start(command: list[str]) -> tuple[subprocess.Popen, str]:
    """A server process on a free port that stands in `command` as PORT."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = subprocess.Popen([part.replace("PORT", port) for part in command], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(1200):
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return process, url
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"{command[0]} did not start")


def main() -> None:
    options = arguments(__doc__, model="", bits="4", node="")
    if not options.model:
        raise SystemExit("--model names a GGUF file")
    home = options.node or subprocess.run(
        [HERE / "peers.sh", "node-llama-cpp"], check=True, capture_output=True, text=True
    ).stdout.strip().splitlines()[-1]  # fmt: skip
    bits = ["--bits", options.bits] if options.bits else []
    qianwen = [sys.executable, "-m", "qianwen", "serve", f"bench={options.model}", "--port", "PORT"]
    ours, our_url = start([*qianwen, "--context", "512", *bits])
    peer, peer_url = start(["node", str(HERE / "llama_server.mjs"), home, options.model, "16", "PORT"])
    report, ratios = (
        Report(f"serving beside llama.cpp, ours int{options.bits or '?'}, theirs as in the file", "tokens/s"),
        {},
    )
    prompts, warm_up, seconds = texts(400), *((2.0, 6.0) if options.quick else (10.0, 60.0))
    try:
        for num_clients in (1, 16) if options.quick else (1, 4, 16, 64):
            pairs = Pairs()
            for number in range(1 if options.quick else options.pairs):
                loads = {}
                for name in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
                    url = our_url if name == "ours" else peer_url
                    loads[name] = asyncio.run(ask(url, num_clients, prompts, warm_up, seconds))
                pairs.ours.append(loads["ours"].tokens / seconds)
                pairs.peer.append(loads["peer"].tokens / seconds)
            report.add(f"{num_clients} clients", pairs)
            ratios[f"clients_{num_clients}"] = pairs.ratio
            for name, load in loads.items():
                shown = [load.quantile(values, share) for values in (load.first, load.between) for share in (0.5, 0.99)]
                report.note(
                    f"{num_clients} clients, {name}: first token p50/p99, between tokens p50/p99 (s)",
                    [round(value, 4) for value in shown],
                )
        for name, process in (("ours", ours), ("peer", peer)):
            report.note(f"memory of {name} (MB)", psutil.Process(process.pid).memory_info().rss // 2**20)
    finally:
        for process in (ours, peer):
            process.terminate()
            process.wait(60)
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
