"""Commands as a user runs them, and one finished quick demo for everything here that starts from a model."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Shell = Callable[..., str]


@pytest.fixture(scope="session")
def shell() -> Shell:
    """`shell(command, folder)` runs a command that must succeed and returns what it printed.

    It has all cores, nobody at the keyboard, and the commands of `first` before others, by default ours.
    """

    def run(command: list[str | Path], folder: Path, first: Path = Path(sys.executable).parent) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("QIANWEN_RUNS", "PYTHON", "OMP_"))}
        kept["PATH"] = f"{first}{os.pathsep}{kept['PATH']}"
        done = subprocess.run(command, cwd=folder, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def after_demo(shell: Shell, tmp_path_factory) -> Path:
    """A folder whose `runs/demo` is a finished demo, of the quick kind."""
    folder = tmp_path_factory.mktemp("after demo")
    shell(["qianwen", "demo", "--quick", "--name", "demo"], folder)
    assert (folder / "runs" / "demo" / "report.html").exists()
    return folder
