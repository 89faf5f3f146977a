"""Where a peer is installed: `peers.sh` puts each into an environment of its own.

With QIANWEN_PEERS=installed in the environment nothing is installed: a script whose peer is missing says so and ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def peer_path(name: str) -> str:
    """The Python of the peer's environment, or the folder of a package for Node.js; installed on first use."""
    if os.environ.get("QIANWEN_PEERS") == "installed" and not _is_installed(HERE / ".peers" / name):
        print(f"skipped: the peer {name} is not installed; `benchmarks/peers.sh {name}` installs it")
        sys.exit(0)
    done = subprocess.run(["bash", str(HERE / "peers.sh"), name], check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def _is_installed(home: Path) -> bool:
    return (home / ".done").exists() or (home / "node_modules" / home.name).exists()
