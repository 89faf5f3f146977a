"""Write the three files of pinned versions from pyproject.toml (`make lock`; needs uv).

    constraints.txt         the version of everything, all extras and platforms, for `pip install -c`
    requirements.lock       versions and SHA-256 of what `make setup` and `make test` install
    requirements-cuda.lock  what torch's CUDA build adds on Linux; left out where the CPU build is used

Versions that are pinned already stay, unless they no longer fit; `make lock UPGRADE=1` takes the newest.

The CPU build of torch is another file under the same version. Its hash is added where the configured index offers it,
so one lock accepts either build.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKED_EXTRAS = ("agents", "dev", "data", "eval", "fast", "gguf", "parity", "ui")
OF_CUDA = ("nvidia-", "cuda-")
HEADER = "# Written by `make lock` from pyproject.toml; do not edit.\n"


def compiled(*options: str) -> list[str]:
    """uv's universal resolution, one string per package with its hashes on continued lines."""
    command = ["uv", "pip", "compile", "-q", "pyproject.toml", "--universal", "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", *options]
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"  # uv prefers the versions in the file that it writes
        if "--upgrade" not in sys.argv:
            pins.write_bytes((ROOT / "constraints.txt").read_bytes())
        subprocess.run([*command, "-o", str(pins)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return [block for block in re.split(r"\n(?!\s)", pins.read_text(encoding="utf-8")) if "==" in block]


def cpu_hashes(version: str) -> list[str]:
    """SHA-256 of the CPU wheels of torch that the configured index offers, one per Python version."""
    found = []
    for python in ("3.11", "3.12", "3.13"):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder]
            subprocess.run([*command, "--python-version", python, f"torch=={version}+cpu"], capture_output=True)
            for wheel in Path(folder).iterdir():
                line = subprocess.run(
                    [sys.executable, "-m", "pip", "hash", wheel], capture_output=True, text=True, check=True
                )
                found.append(line.stdout.split("--hash=")[1].strip())
    return found


def main() -> None:
    everything = compiled("--all-extras")
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(everything) + "\n", encoding="utf-8")
    extras = [option for extra in LOCKED_EXTRAS for option in ("--extra", extra)]
    hashed = compiled("--generate-hashes", "--constraint", "constraints.txt", *extras)
    cuda = [block for block in hashed if block.startswith(OF_CUDA)]
    plain = [block for block in hashed if not block.startswith(OF_CUDA)]
    for number, block in enumerate(plain):
        if match := re.match(r"torch==([\d.]+)", block):
            plain[number] = " \\\n    --hash=".join([block, *cpu_hashes(match[1])])
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(plain) + "\n", encoding="utf-8")
    (ROOT / "requirements-cuda.lock").write_text(HEADER + "\n".join(cuda) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
