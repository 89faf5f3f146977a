"""The wheel alone, outside the tree: it holds everything the demo needs."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so the tree stays as it was."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "qianwen", copy / "qianwen", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        copy / "dist",
        copy,
    ]
    subprocess.run(command, check=True)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Path:
    """A new environment that holds the wheel and borrows this one's packages, but not its editable install."""
    home = tmp_path_factory.mktemp("elsewhere 中文") / "env"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))
    return home


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"qianwen"}
    data = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "qianwen").rglob("*.*") if "__pycache__" not in path.parts
    }
    assert data - set(names) == set()


def test_the_wheel_alone_runs_the_demo(shell, installed: Path, tmp_path: Path):
    here = installed / "bin"
    assert str(installed) in shell([here / "python", "-c", "import qianwen; print(qianwen.__file__)"], tmp_path)
    shell([here / "qianwen", "doctor"], tmp_path)
    shell([here / "qianwen", "demo", "--quick"], tmp_path, first=here)
    (report,) = tmp_path.glob("runs/*/report.html")
    assert report.stat().st_size > 10_000
