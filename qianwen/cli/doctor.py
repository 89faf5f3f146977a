"""`qianwen doctor`: what works on this machine, what is refused, and why. Every line is checked when it is printed."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
import tyro
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.table import Table

from qianwen.runtime import device, processor
from qianwen.runtime.errors import ConfigError, QianwenError
from qianwen.runtime.files import atomic_folder, cache_dir, lock, runs_dir, verify_folder
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

PYTHONS = ("3.11", "3.12", "3.13")
COUNTED = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


class Check(NamedTuple):
    """One line: `ok` is None where nothing is wrong, only absent."""

    what: str
    ok: bool | None
    found: str


def doctor(argv: list[str]) -> int:
    """Print the checks; exit status 1 when something required is missing."""
    tyro.cli(_arguments, prog="qianwen doctor", args=argv)
    failed = False
    for title, checks in (
        (tr("System"), system()),
        (tr("Compute"), compute()),
        (tr("Disk"), disk()),
        (tr("Programs"), programs()),
        (tr("Extras"), extras()),
    ):
        console.print(f"\n{title}", style="bold")
        for check in checks:
            mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[check.ok]
            failed |= check.ok is False
            console.print(f" [{style}]{mark}[/] {check.what}: ", end="")
            console.print(check.found, markup=False)
    here = {"Darwin": "macOS"}.get(platform.system(), platform.system())
    title = tr("Platforms (checked above: {here}; the others by design, not checked)", here=here)
    console.print(f"\n{title}", style="bold")
    console.print(platforms())
    return int(failed)


def _arguments() -> None:
    """Check what works on this machine, what is refused, and why."""


def system() -> Iterator[Check]:
    """Operating system, Python, and the Python versions our dependencies accept."""
    known = platform.system() in ("Linux", "Darwin", "Windows")
    yield Check(tr("system"), known, f"{platform.system()} {platform.release()} {platform.machine()}")
    version = platform.python_version()
    yield Check("Python", sys.version_info >= (3, 11), tr("{version} (3.11 or later is needed)", version=version))
    for name in PYTHONS:
        refusing = _refusing(name)
        found = tr("refused by {names}", names=", ".join(refusing)) if refusing else tr("accepted by all dependencies")
        yield Check(f"Python {name}", None if refusing else True, found)


def compute() -> Iterator[Check]:
    """Processor, accelerators, and the number format that the matrix products of this machine recommend."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    features = " ".join(name for name in COUNTED if name in processor.cpu_features())
    yield Check(tr("processor"), True, f"{processor.cpu_name()}, {tr('{cores} cores', cores=cores)}, {features}")
    yield Check("torch", True, torch.__version__)
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        yield Check("CUDA", True, f"{torch.cuda.get_device_name()}, {major}.{minor}, CUDA {torch.version.cuda}")
    else:
        built = tr("no device found") if torch.version.cuda else tr("this torch is built without CUDA")
        yield Check("CUDA", None, built)
    has_mps = torch.backends.mps.is_available()
    yield Check(tr("Apple GPU"), has_mps or None, tr("available") if has_mps else tr("none"))
    chosen = device.best_device()
    dtype = device.compute_dtype(chosen)
    speeds = ", ".join(f"{_name(d)} {_gflops(chosen, d):,.0f} GFLOP/s" for d in (torch.float32, torch.bfloat16))
    yield Check(tr("used here"), True, f"{chosen}, {_name(dtype)} ({speeds})")


def disk() -> Iterator[Check]:
    """Memory, room, and whether the writer, its verification and the lock work where runs and downloads go."""
    memory = psutil.virtual_memory()
    free, total = memory.available / 1e9, memory.total / 1e9
    yield Check(tr("memory"), True, tr("{free:.1f} of {total:.1f} GB free", free=free, total=total))
    for what, folder in ((tr("runs"), runs_dir()), (tr("cache"), cache_dir())):
        root = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
        try:
            with tempfile.TemporaryDirectory(dir=root, prefix=".doctor") as trial:
                _try_writer(Path(trial))
            room = shutil.disk_usage(root).free / 1e9
            yield Check(what, True, tr("{folder}: {room:.0f} GB free; writer, lock: ok", folder=folder, room=room))
        except (OSError, QianwenError) as error:
            yield Check(what, False, f"{folder}: {error}")
    vocabularies = sorted(cache_dir().rglob("qwen.tiktoken")) if cache_dir().exists() else []
    missing = tr("not here: fetched from its PyPI wheel at first use, or set QIANWEN_VOCAB")
    given = os.environ.get("QIANWEN_VOCAB") or (str(vocabularies[0]) if vocabularies else "")
    yield Check(tr("Qwen vocabulary"), bool(given) or None, given or missing)


def programs() -> Iterator[Check]:
    """Programs some features use."""
    compiler = next((found for name in ("c++", "g++", "clang++", "cl") if (found := shutil.which(name))), None)
    yield Check(
        tr("C++ compiler"),
        bool(compiler) or None,
        compiler or tr("none: quantised models will be slow, and torch.compile will not work"),
    )
    if not sys.platform.startswith("linux"):
        yield Check(tr("isolation for code"), None, tr("refused: isolation needs Linux namespaces"))
        return
    bubblewrap = shutil.which("bwrap")
    unshare = (
        shutil.which("unshare") and subprocess.run(["unshare", "-Urn", "true"], capture_output=True).returncode == 0
    )
    how = bubblewrap or (tr("namespaces by unshare") if unshare else tr("refused: install bubblewrap"))
    yield Check(tr("isolation for code"), bool(bubblewrap or unshare) or None, how)


def extras() -> Iterator[Check]:
    """Each optional extra: complete, or the command that installs it."""
    wanted: dict[str, list[Requirement]] = {}
    for line in importlib.metadata.requires("qianwen") or []:
        requirement = Requirement(line)
        for extra in importlib.metadata.metadata("qianwen").get_all("Provides-Extra") or []:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}):
                wanted.setdefault(extra, []).append(requirement)
    for extra, requirements in wanted.items():
        missing = [requirement.name for requirement in requirements if not _is_installed(requirement)]
        names = ", ".join(requirement.name for requirement in requirements)
        yield Check(
            extra, None if missing else True, f"pip install 'qianwen[{extra}]'  ({names})" if missing else names
        )


def platforms() -> Table:
    """What each part needs of the system, by design: only this machine's column is checked, by the lines above."""
    table = Table("", "Linux", "macOS", "Windows", box=None, header_style="dim", pad_edge=False)
    refused = tr("refused: isolation needs Linux namespaces")
    table.add_row(tr("train, chat, serve on the CPU"), *[tr("yes")] * 3)
    table.add_row("GPU", "CUDA", tr("Apple GPU"), "CUDA")
    table.add_row(tr("several processes"), "gloo, nccl", "gloo", "gloo")
    table.add_row(tr("isolation for code"), tr("yes"), refused, refused)
    return table


def _refusing(python: str) -> list[str]:
    """Installed dependencies whose own metadata excludes a Python version."""
    names = [Requirement(line).name for line in importlib.metadata.requires("qianwen") or [] if "extra ==" not in line]
    allowed = {name: importlib.metadata.metadata(name).json.get("requires_python") for name in names if _is_there(name)}
    return [name for name, spec in allowed.items() if spec and f"{python}.0" not in SpecifierSet(str(spec))]


def _is_there(name: str) -> bool:
    return bool(list(importlib.metadata.distributions(name=name)))


def _is_installed(requirement: Requirement) -> bool:
    found = next(iter(importlib.metadata.distributions(name=requirement.name)), None)
    return found is not None and requirement.specifier.contains(found.version, prereleases=True)


def _try_writer(folder: Path) -> None:
    with lock(folder / "locked"), atomic_folder(folder / "artefact 文件") as trial:
        (trial / "file").write_bytes(b"whole or not at all")
    if not verify_folder(folder / "artefact 文件")["files"]:
        raise ConfigError(tr("the manifest is empty"))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _gflops(chosen: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Speed of one matrix product, the best of five."""
    a = torch.randn(size, size, device=chosen).to(dtype)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # .item() waits for the device
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times[1:]) / 1e9
