"""A server under 1, 4, 16 and 64 clients beside llama.cpp's, same prompts, closed loop.

    python benchmarks/serving.py --model FILE.gguf [--bits 4] [--clients 1,4,16,64] [--traffic own,shared] [--quick]

Every client sends a prompt of 128 tokens of real text, takes exactly 128 new tokens, and sends the next one. After a
warm-up the events of a minute are counted, one a token (we hold some back until a character is whole, so we are counted
a little low). With `shared` traffic the same 384 tokens stand before every prompt, as an assistant's instructions do.
llama.cpp answers through `node-llama-cpp` with 16 sequences behind a small HTTP server (`llama_server.mjs`); a sequence
keeps what its next prompt begins with. Both servers run at once but only one is asked at a time, and only once both are
idle: some go on with what clients asked who are gone.
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
from peers import peer_path

from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.tokenizer.tokenizer import Tokenizer

HERE = Path(__file__).parent
PROMPT, NEW, SHARED, PROMPTS = 128, 128, 384, 400  # tokens; different prompts
QUANTILES = (0.5, 0.99)
IDLE_PERCENT = 20  # of a core


@dataclass
class Load:
    """What one round of closed-loop clients saw."""

    tokens: int = 0
    first: list[float] = field(default_factory=list)  # seconds to the first token
    between: list[float] = field(default_factory=list)  # seconds between two tokens


def quantiles(values: list[float]) -> list[float]:
    """Seconds at p50 and p99."""
    ordered = sorted(values) or [float("nan")]
    return [round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 4) for share in QUANTILES]


def texts(tokenizer: Tokenizer, is_shared: bool) -> list[str]:
    """Real English text of 128 tokens each: docstrings and comments of Python's own library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    prose = " ".join(path.read_text("utf-8", "replace") for path in sorted(library.glob("*.py"))[:120])
    ids = tokenizer.encode(re.sub(r"\s+", " ", prose))
    starts = random.Random(0).sample(range(SHARED, len(ids) - PROMPT), PROMPTS)
    before = tokenizer.decode(ids[:SHARED]) if is_shared else ""
    return [before + tokenizer.decode(ids[start : start + PROMPT]) for start in starts]


async def client(http: httpx.AsyncClient, url: str, prompts: list[str], load: Load, counting: list[bool]) -> None:
    """One client: stream an answer, note its times, ask again."""
    while True:
        body = {"model": "bench", "prompt": random.choice(prompts), "max_tokens": NEW, "temperature": 0}
        body |= {"ignore_eos": True, "stream": True}
        last, is_first = time.perf_counter(), True
        async with http.stream("POST", f"{url}/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                now = time.perf_counter()
                if counting[0]:
                    load.tokens += 1
                    (load.first if is_first else load.between).append(now - last)
                last, is_first = now, False


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


def wait_until_idle(processes: list[psutil.Process], patience: float = 600.0) -> None:
    """Until nobody computes what clients that are gone have asked for."""
    deadline = time.monotonic() + patience
    while any([process.cpu_percent(interval=1.0) > IDLE_PERCENT for process in processes]):
        if time.monotonic() > deadline:
            raise SystemExit("a server computes on with nobody asking it")


def measure(
    report: Report, name: str, urls: dict[str, str], prompts: list[str], num_clients: int, times: tuple
) -> float:
    """The ratio of generated tokens/s; `times` are the pairs, and seconds of warm-up and of counting."""
    num_pairs, warm_up, seconds = times
    pairs, loads = Pairs(), {side: Load() for side in urls}
    for number in range(num_pairs):
        for side in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
            wait_until_idle(psutil.Process().children())
            load = asyncio.run(ask(urls[side], num_clients, prompts, warm_up, seconds))
            getattr(pairs, side).append(load.tokens / seconds)
            loads[side].first += load.first
            loads[side].between += load.between
    report.add(name, pairs)
    for side, load in loads.items():
        report.note(f"{name}, {side}: seconds to the first token, p50 and p99", quantiles(load.first))
        report.note(f"{name}, {side}: seconds between tokens, p50 and p99", quantiles(load.between))
    if not all(pairs.peer):
        raise SystemExit(f"{name}: the peer wrote nothing within a turn; give it more --seconds")
    return pairs.ratio


def main() -> None:
    options = arguments(__doc__, model="", bits="4", node="", clients="1,4,16,64", traffic="own,shared", seconds=60.0)
    if not options.model:
        raise SystemExit("--model names a GGUF file")
    home = options.node or peer_path("node-llama-cpp")
    qianwen = [sys.executable, "-m", "qianwen", "serve", f"bench={options.model}", "--port", "PORT"]
    ours, our_url = start([*qianwen, "--context", "1024", "--bits", options.bits])
    peer, peer_url = start(["node", str(HERE / "llama_server.mjs"), home, options.model, "16", "PORT"])
    report, ratios = Report(f"serving {Path(options.model).name} beside llama.cpp", "tokens/s"), {}
    report.note("weights", f"ours {options.bits} bits, theirs as in the file")
    tokenizer = Tokenizer(GgufModel(Path(options.model)).vocabulary)
    times = (1, 2.0, 6.0) if options.quick else (options.pairs, 10.0, options.seconds)
    urls = {"ours": our_url, "peer": peer_url}
    try:
        for traffic in options.traffic.split(","):
            is_shared = traffic == "shared"
            prompts = texts(tokenizer, is_shared)
            for num_clients in map(int, options.clients.split(",")):
                if (options.quick or is_shared) and num_clients not in (1, 16):
                    continue
                name = f"{num_clients} clients" + is_shared * ", shared prefix"
                key = f"clients_{num_clients}" + is_shared * "_shared"
                ratios[key] = measure(report, name, urls, prompts, num_clients, times)
        for side, process in (("ours", ours), ("peer", peer)):
            report.note(f"memory of {side} (MB)", psutil.Process(process.pid).memory_info().rss // 2**20)
    finally:
        for process in (ours, peer):
            process.terminate()
            process.wait(60)
    report.finish(ratios, options.json)


if __name__ == "__main__":
    main()
