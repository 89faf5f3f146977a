"""One run to its end: start a program, read the output up to its limit, and end everything."""

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qianwen.sandbox.limits import Limits
from qianwen.sandbox.running import GRACE, Backend, RunningProgram

CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What the supervisor reported and what the program wrote."""

    exit_code: int
    ended_by: str | None  # stopped, wall, cpu, memory, folder; None: the program ended by itself
    cpu_seconds: float
    wall_seconds: float
    output: tuple[bytes, bytes]  # standard output, standard error
    is_cut: bool  # there was more output than allowed


def execute(
    backend: Backend, argv: Sequence[str], files: Mapping[str, bytes], stdin: bytes, limits: Limits
) -> Execution:
    """Run a command and return when no process of it is left."""
    running = RunningProgram(backend, argv, files, limits, stdin=stdin)
    output: tuple[bytes, bytes] = (b"", b"")
    try:
        output, is_cut = _read(running.process, limits.output_bytes, running.started + limits.wall_seconds + GRACE)
    finally:
        ending = running.end(output[1])
    return Execution(
        exit_code=ending.exit_code,
        ended_by=ending.ended_by,
        cpu_seconds=ending.cpu_seconds,
        wall_seconds=running.wall_seconds,
        output=output,
        is_cut=is_cut,
    )


def _read(process: subprocess.Popen[bytes], limit: int, deadline: float) -> tuple[tuple[bytes, bytes], bool]:
    """Both outputs up to `limit` bytes together, and whether there was more."""
    pipes = [pipe.fileno() for pipe in (process.stdout, process.stderr) if pipe]
    output = {pipe: bytearray() for pipe in pipes}
    events = select.poll()
    for pipe in pipes:
        events.register(pipe, select.POLLIN)
    waiting, room = len(pipes), limit
    while waiting and (left := deadline - time.monotonic()) > 0:
        for pipe, _ in events.poll(left * 1000):
            if not (piece := os.read(pipe, CHUNK)):
                events.unregister(pipe)
                waiting -= 1
            output[pipe] += piece[:room]
            if len(piece) > room:
                return (bytes(output[pipes[0]]), bytes(output[pipes[1]])), True
            room -= len(piece)
    return (bytes(output[pipes[0]]), bytes(output[pipes[1]])), False
