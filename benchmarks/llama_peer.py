"""llama.cpp and ik_llama.cpp as processes to ask: what `llama_cpp.mjs` and `llama_python.py` answer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from peers import peer_path

HERE = Path(__file__).parent


class Peer:
    """A process that is asked one operation at a time."""

    def __init__(self, command: list[str]) -> None:
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.process = subprocess.Popen(command, **quiet)
        self.about = self._read()

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps({"op": op, **fields}), file=self.process.stdin, flush=True)
        return self._read()

    def speed(self, op: str, **fields: Any) -> float:
        """Tokens/s of an operation."""
        answer = self.ask(op, **fields)
        return answer["tokens"] / answer["seconds"]

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class LlamaCpp(Peer):
    """llama.cpp as node-llama-cpp ships it, which also scores texts and answers."""

    def __init__(self, model: str, home: str = "") -> None:
        super().__init__(["node", str(HERE / "llama_cpp.mjs"), home or peer_path("node-llama-cpp"), model, "1"])


class LlamaPython(Peer):
    """llama.cpp built for a family of processors, or ik_llama.cpp, with flash attention off or on."""

    def __init__(self, peer: str, model: str, flash: bool = False, context: int = 1024) -> None:
        module, self.flash = "ik_llama_cpp" if peer.startswith("ik") else "llama_cpp", flash
        options = [module, model, str(int(flash)), str(context)]
        super().__init__([peer_path(peer), str(HERE / "llama_python.py"), *options])


class FasterOf:
    """A peer with different settings; the faster one in a trial does an operation on as many tokens."""

    def __init__(self, *peers: LlamaPython, tries: int = 2) -> None:
        self.peers, self.tries, self.choice = peers, tries, dict[tuple[str, int], LlamaPython]()

    def speed(self, op: str, **fields: Any) -> float:
        return self.chosen(op, **fields).speed(op, **fields)

    def chosen(self, op: str, **fields: Any) -> LlamaPython:
        """The faster one, tried now if it was not before."""
        key = op, len(fields["prompt"])
        if key not in self.choice:
            speeds = [max(peer.speed(op, **fields) for _ in range(self.tries)) for peer in self.peers]
            self.choice[key] = self.peers[speeds.index(max(speeds))]
        return self.choice[key]
