"""A command's seconds, as it says them itself, and the most memory that it and its children held together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil


class Measured(NamedTuple):
    """`megabytes` is the largest sum of resident memory over the processes of the command, seen every 0.1 s."""

    seconds: float
    megabytes: float
    said: dict


def measured(command: list[str], env: dict[str, str] | None = None) -> Measured:
    """Run a command whose last line is a JSON object with `seconds`."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as child:
        most = [0.0]
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(child.pid, most, done))
        watcher.start()
        out, errors = child.communicate()
        done.set()
        watcher.join()
    if child.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{errors[-3000:]}")
    said = json.loads(out.strip().splitlines()[-1])
    return Measured(said["seconds"], most[0] / 1e6, said)


def _watch(pid: int, most: list[float], done: threading.Event) -> None:
    while not done.wait(0.1):
        total = 0
        try:
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
        except psutil.Error:
            continue
        most[0] = max(most[0], float(total))


def environment() -> dict[str, str]:
    """Of a command that may be run by a peer's Python: it finds our package, and one thread is one thread."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}


def seconds_of(began: float) -> str:
    """What `measured` reads."""
    return json.dumps({"seconds": time.perf_counter() - began})
