"""`qianwen doctor`: check what works on this machine and why the rest does not. Every line is the result of a test run.

The exit status is 1 when a check fails. An optional part that is not installed is not a failure.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.table import Table

from qianwen.cli import doctor_packages
from qianwen.cli.arguments import parse
from qianwen.cli.doctor_compiled import Check, compiled
from qianwen.runtime import device, processor
from qianwen.runtime.compiler import cpp_compiler
from qianwen.runtime.errors import ConfigError, QianwenError
from qianwen.runtime.files import atomic_folder, cache_dir, lock, runs_dir, verify_folder
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.sandbox.process import Sandbox
from qianwen.tokenizer.vocab_files import read_tiktoken

PYTHONS = ("3.11", "3.12", "3.13")
MISSING = doctor_packages.MISSING
COUNTED = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


def doctor(argv: list[str]) -> int:
    """Run and print the checks; exit status 1 if one fails."""
    parse(_arguments, "qianwen doctor", argv)
    failed = False
    for title, checks in (
        (tr("System"), system()),
        (tr("Compute"), compute()),
        (tr("Compiled parts"), compiled()),
        (tr("Disk"), disk()),
        (tr("Programs"), programs()),
        (tr("Extras"), extras()),
    ):
        console.print(f"\n{title}", style="bold")
        for check in checks:
            mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[check.ok]
            failed |= check.ok is False
            console.print(f" [{style}]{mark}[/] {check.what}: ", end="")
            console.print(check.result, markup=False)
    here = {"Darwin": "macOS"}.get(platform.system(), platform.system())
    title = tr("Platforms (checked above: {here}; the others by design, not checked)", here=here)
    console.print(f"\n{title}", style="bold")
    console.print(platforms())
    return int(failed)


def _arguments() -> None:
    """Check what works on this machine, and why the rest does not."""


def system() -> Iterator[Check]:
    """Operating system, Python, and the Python versions that all dependencies accept."""
    known = platform.system() in ("Linux", "Darwin", "Windows")
    yield Check(tr("system"), known, f"{platform.system()} {platform.release()} {platform.machine()}")
    version = platform.python_version()
    yield Check("Python", sys.version_info >= (3, 11), tr("{version} (3.11 or later is needed)", version=version))
    for name in PYTHONS:
        refusing = _refusing(name)
        result = tr("refused by {names}", names=", ".join(refusing)) if refusing else tr("accepted by all dependencies")
        yield Check(f"Python {name}", None if refusing else True, result)


def compute() -> Iterator[Check]:
    """Processor, accelerators, and the speed and error of matrix products in fp32 and bf16."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    features = " ".join(name for name in COUNTED if name in processor.cpu_features())
    yield Check(
        tr("processor"), True, f"{processor.cpu_name()}, {tr('{cores} core{cores:plural}', cores=cores)}, {features}"
    )
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
    for dtype in (torch.float32, torch.bfloat16):
        yield _product(chosen, dtype)
    yield Check(tr("used here"), True, f"{chosen}, {_name(device.compute_dtype(chosen))}")


def disk() -> Iterator[Check]:
    """Free memory and disk space; atomic writes, verification and locks in the folders of runs and downloads."""
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
    yield _vocabulary()


def _vocabulary() -> Check:
    """Read the Qwen vocabulary, if it was downloaded."""
    cached = sorted(cache_dir().rglob("qwen.tiktoken")) if cache_dir().exists() else []
    path = os.environ.get("QIANWEN_VOCAB") or (str(cached[0]) if cached else "")
    if not path:
        missing = tr("not downloaded yet: it is fetched from its PyPI wheel at first use, or set QIANWEN_VOCAB")
        return Check(tr("Qwen vocabulary"), None, missing)
    try:
        count = len(read_tiktoken(path))
    except (OSError, QianwenError) as error:
        return Check(tr("Qwen vocabulary"), False, str(error))
    return Check(tr("Qwen vocabulary"), True, tr("{path}: {count:,} tokens", path=path, count=count))


def programs() -> Iterator[Check]:
    """External programs that some features use."""
    compiler = cpp_compiler()
    if compiler is None:
        yield Check(
            tr("C++ compiler"), None, tr("none: torch.compile will not work, and parts in C++ must come prebuilt")
        )
    else:
        works, output = _run(*compiler, "--version")
        yield Check(tr("C++ compiler"), works, f"{shlex.join(compiler)}: {output}")
    yield _isolation()


def _isolation() -> Check:
    """Run a program in the sandbox that would be chosen for a model's programs."""
    try:
        sandbox = Sandbox.open()
        outcome = sandbox.run_python("print(6 * 7)")
    except ConfigError as error:
        return Check(tr("isolation for code"), None, str(error))
    milliseconds = 1000 * outcome.wall_seconds
    result = tr("{name}; a program starts in {milliseconds:.0f} ms", name=sandbox.backend, milliseconds=milliseconds)
    return Check(tr("isolation for code"), outcome.stdout == "42\n", result)


def _run(*command: str) -> tuple[bool, str]:
    """Whether a program succeeds, and the first line it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return False, error.strerror or str(error)
    lines = (done.stdout + done.stderr).strip().splitlines()
    status = "" if done.returncode == 0 else tr("exit status {status}", status=done.returncode)
    return done.returncode == 0, lines[0] if lines else status


def extras() -> Iterator[Check]:
    """Each optional extra: whether its packages work, or the command that installs them."""
    for extra, packages in doctor_packages.problems(doctor_packages.requirements()):
        names = ", ".join(packages)
        broken = [f"{name}: {problem}" for name, problem in packages.items() if problem not in ("", MISSING)]
        if broken:
            yield Check(extra, False, "; ".join(broken))
        elif MISSING in packages.values():
            yield Check(extra, None, f"pip install 'qianwen[{extra}]'  ({names})")
        else:
            yield Check(extra, True, names)


def platforms() -> Table:
    """Supported systems of each feature, by design. Only this machine's column is checked, by the lines above."""
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


def _try_writer(folder: Path) -> None:
    with lock(folder / "locked"), atomic_folder(folder / "artefact 文件") as trial:
        (trial / "file").write_bytes(b"whole or not at all")
    if not verify_folder(folder / "artefact 文件")["files"]:
        raise ConfigError(tr("the manifest is empty"))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _product(chosen: torch.device, dtype: torch.dtype, size: int = 1024) -> Check:
    """One matrix product: the best speed of five runs, and its error against double precision."""
    a = torch.randn(size, size, device=chosen).to(dtype)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - start)
    exact = a.cpu().double() @ a.cpu().double()
    error = ((product.cpu().double() - exact).norm() / exact.norm()).item()
    numbers = {"speed": 2 * size**3 / min(times[1:]) / 1e9, "error": error}
    text = tr("{speed:,.0f} GFLOP/s, relative error {error:.1g}", **numbers)
    return Check(_name(dtype), error < (1e-2 if dtype == torch.bfloat16 else 1e-3), text)
