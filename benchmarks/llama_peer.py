"""llama.cpp as a process to ask: what `llama_cpp.mjs` answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class LlamaCpp:
    """A process of `llama_cpp.mjs`; `ask` one operation at a time."""

    def __init__(self, model: str, home: str = "") -> None:
        home = home or subprocess.run(
            [HERE / "peers.sh", "node-llama-cpp"], check=True, capture_output=True, text=True
        ).stdout.strip().splitlines()[-1]  # fmt: skip
        command = ["node", str(HERE / "llama_cpp.mjs"), home, model, "1"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
