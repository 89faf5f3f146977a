"""A server that is stopped under load, killed, or whose engine fails; then it is restarted (R38)."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from .conftest import full

DRAIN = 2.0
SCRIPT = """
import logging, signal, sys
sys.path.insert(0, sys.argv[1])
import conftest
import torch
from qianwen.serve.app import serve
torch.set_num_threads(1)
logging.basicConfig(level=logging.INFO, format="%(message)s")
engine = conftest.LLMEngine(conftest.tiny_model(), conftest.tiny_tokenizer(), conftest.EngineConfig(num_blocks=1024))
store = conftest.Store(sys.argv[2])
served = conftest.Served("tiny", conftest.Bridge(engine), engine.tokenizer, engine.max_model_len)
limits = conftest.Limits(drain_seconds=float(sys.argv[4]))
service = conftest.Service([served], conftest.Admission(limits, store), store)

def broken(*_):
    raise RuntimeError("the engine is out of order")

signal.signal(signal.SIGUSR1, lambda *_: setattr(engine.runner, "run", broken))
listener = conftest.listen("127.0.0.1", int(sys.argv[3]))
print(listener.getsockname()[1], flush=True)
serve(conftest.create_app(service, conftest.AccessRules(store=store)), service, "127.0.0.1", 0, [listener])
print("stopped", flush=True)
"""


class Process:
    """A server in its own process, and clients that keep it busy."""

    def __init__(self, folder: Path, port: int) -> None:
        tests = str(Path(__file__).resolve().parents[1] / "serve")
        command = [sys.executable, "-c", SCRIPT, tests, str(folder / "serve.sqlite"), str(port), str(DRAIN)]
        self.log = (folder / "log").open("a")
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, env=env)
        assert self.popen.stdout is not None
        self.url = f"http://127.0.0.1:{port}"
        self.ends: list[str] = []
        if self.popen.stdout.readline() != f"{port}\n":
            self.close()
            pytest.fail((folder / "log").read_text())

    def ask(self, max_tokens: int = 2) -> int:
        body = {"model": "tiny", "prompt": "x", "max_tokens": max_tokens}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=30, trust_env=False).status_code

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=30, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def listen_to_the_end(self, max_tokens: int, began: threading.Barrier) -> None:
        """Stream an answer; note how it ended: a finish reason, an error's code, or a broken connection."""
        body = {"model": "tiny", "prompt": "x", "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
        end = "broken"
        try:
            with httpx.stream("POST", f"{self.url}/v1/completions", json=body, timeout=60, trust_env=False) as reply:
                for number, line in enumerate(reply.iter_lines()):
                    if number == 0:
                        began.wait(60)
                    if line.startswith("data: {"):
                        data = json.loads(line.removeprefix("data: "))
                        end = data["error"]["code"] if "error" in data else data["choices"][0]["finish_reason"] or end
        except (httpx.HTTPError, json.JSONDecodeError):  # the latter: cut off within a line
            end = "broken"
        self.ends.append(end)

    @contextmanager
    def load(self, lengths: list[int]) -> Iterator[None]:
        """Clients that all receive answers while the block runs; waits for them at the end."""
        began = threading.Barrier(len(lengths) + 1)
        threads = [threading.Thread(target=self.listen_to_the_end, args=(n, began)) for n in lengths]
        for thread in threads:
            thread.start()
        began.wait(60)
        yield
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a client waits for a server that is gone"

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        self.log.close()


def lasting_port() -> int:
    """A free port below the ephemeral range, so that no other process takes it between two servers."""
    for port in random.sample(range(20_000, 32_768), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def stop(process: Process) -> float:
    """SIGTERM: answers that can finish in time do, the rest is aborted, and new requests are refused."""
    children = psutil.Process(process.popen.pid).children(recursive=True)
    with process.load([200, 200, 2000, 2000, 2000, 2000, 2000, 2000]):
        started = time.monotonic()
        process.popen.send_signal(signal.SIGTERM)
        while process.is_ready():
            time.sleep(0.01)
        with suppress(httpx.HTTPError):  # it may be gone already
            assert process.ask() == 503
        assert process.popen.wait(30) == 0
        took = time.monotonic() - started
    assert process.ends.count("length") >= 2 and {*process.ends} <= {"length", "draining"}
    assert not [child for child in children if child.is_running()]
    return took


def kill(process: Process) -> float:
    """SIGKILL: clients see a broken connection at once."""
    with process.load([2000] * 4):
        started = time.monotonic()
        process.popen.kill()
    assert set(process.ends) == {"broken"}
    return time.monotonic() - started


def break_engine(process: Process) -> float:
    """An exception in a step: all clients get an error, /health returns 503, and SIGTERM still stops it."""
    with process.load([2000] * 4):
        started = time.monotonic()
        process.popen.send_signal(signal.SIGUSR1)
    took = time.monotonic() - started
    assert set(process.ends) == {"engine_stopped"}
    with httpx.Client(base_url=process.url, trust_env=False) as client:
        assert client.get("/health").status_code == client.get("/ready").status_code == 503
    assert process.ask() == 503
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(30) == 0
    return took


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [3, full(21)])
def test_the_server_stops_correctly_and_restarts(tmp_path, rounds, report):
    """R38: on the same port, with the same store."""
    took: dict[str, list[float]] = {"stop": [], "kill": [], "break_engine": []}
    port = lasting_port()
    for number in range(rounds):
        process = Process(tmp_path, port)
        try:
            assert process.ask() == 200
            end = (stop, kill, break_engine)[number % 3]
            took[end.__name__].append(end(process))
        finally:
            process.close()
    assert "out of order" not in (tmp_path / "log").read_text()
    report(R38_rounds=rounds, drain_seconds=DRAIN, **{f"{k}_max_s": round(max(v), 2) for k, v in took.items() if v})
