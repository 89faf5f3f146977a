"""Build the wheel of this platform, with the libraries that are otherwise compiled at first use (`make dist`).

    python tools/dist.py [FOLDER]        into dist/ by default

It brings the kernels of every family of this architecture, the learner of vocabularies and the shingler, so that
`pip install` of it needs no compiler. The work is done on a copy: a checkout never has prebuilt libraries.
OpenMP's runtime is not in it: it is PyTorch's. With `auditwheel` installed the wheel is tagged for every Linux with a
new enough C library, else for this Linux.
"""

import importlib.util
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from qianwen.data.curate import shingler
from qianwen.kernels.cpu import build
from qianwen.runtime.compiler import compile_library, cpp_compiler, prebuilt_path
from qianwen.tokenizer import learner

ROOT = Path(__file__).resolve().parents[1]
IS_ARM = platform.machine().lower() in ("aarch64", "arm64")
GENERIC = "-march=armv8-a" if IS_ARM else "-march=x86-64-v2"


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "source"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        ignored = shutil.ignore_patterns("__pycache__", "prebuilt")
        shutil.copytree(ROOT / "qianwen", copy / "qianwen", ignore=ignored)
        compile_all(copy)
        print(wheel(copy, Path(temporary), folder).name)


def compile_all(copy: Path) -> None:
    """Every library of this architecture, where `native_library` looks for it."""
    for family in build.FAMILIES:
        if family.is_arm == IS_ARM:
            flags = (*build.FLAGS, *family.flags)
            compile_one(copy / build.SOURCES.relative_to(ROOT), flags, flags, family.name)
    for name, module in (("learner", learner), ("shingler", shingler)):
        compile_one(copy / module.SOURCES.relative_to(ROOT), (), (GENERIC,), name)


def compile_one(sources: Path, key: tuple[str, ...], flags: tuple[str, ...], variant: str) -> None:
    compiler = cpp_compiler()
    if compiler is None:
        raise SystemExit("make dist needs a C++ compiler: install g++, or pip install ziglang")
    library = prebuilt_path(sources, key, variant)
    library.parent.mkdir(exist_ok=True)
    print(f"compiling {library.relative_to(sources.parents[1])}", flush=True)
    try:
        compile_library(compiler, sources, flags, library)
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.stderr) from error


def wheel(copy: Path, temporary: Path, folder: Path) -> Path:
    """The wheel of the copy, tagged for the platforms it runs on, moved into `folder`."""
    tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    made, repaired = temporary / "made", temporary / "repaired"
    options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        f"--config-settings=--build-option=--plat-name={tag}",
    ]
    if importlib.util.find_spec("setuptools"):
        options.append("--no-build-isolation")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", made, copy], check=True)
    (built,) = made.glob("*.whl")
    if sys.platform == "linux" and importlib.util.find_spec("auditwheel"):
        subprocess.run([sys.executable, "-m", "auditwheel", "repair", "-w", repaired, built], check=True)
        (built,) = repaired.glob("*.whl")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(built, folder / built.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
