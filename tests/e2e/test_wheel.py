"""The wheel alone, outside the tree: it holds everything the demo needs."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from qianwen.kernels.cpu.build import available_families

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built as `make dist` builds it, with the compiled parts."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, ROOT / "tools" / "dist.py", folder], check=True, cwd=ROOT)
    (built,) = folder.glob("*.whl")
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


WITHOUT_A_COMPILER = """
from qianwen.data.curate import shingler
from qianwen.kernels.cpu import build, operators
from qianwen.runtime.compiler import cpp_compiler
from qianwen.tokenizer import learner

assert cpp_compiler() is None, cpp_compiler()
assert operators.available()
for library in (build.library(), learner.library(), shingler.library()):
    print(library.path)
"""


def test_without_a_compiler_the_compiled_parts_come_from_the_wheel(installed: Path, tmp_path: Path):
    python = installed / "bin" / "python"
    if not available_families():
        pytest.skip("this processor has no family of kernels")
    for family in (each.name for each in available_families()):
        bare = {"PATH": str(python.parent), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = [python, "-c", WITHOUT_A_COMPILER]
        done = subprocess.run(
            command, cwd=tmp_path, env=bare | {"QIANWEN_KERNELS": family}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        libraries = [Path(line) for line in done.stdout.splitlines()]
        assert [path.parent.name for path in libraries] == ["prebuilt"] * 3
        assert all(path.is_relative_to(installed) for path in libraries)
        assert libraries[0].name.startswith(f"{family}-")


def test_the_wheel_alone_runs_the_demo(shell, installed: Path, tmp_path: Path):
    here = installed / "bin"
    assert str(installed) in shell([here / "python", "-c", "import qianwen; print(qianwen.__file__)"], tmp_path)
    shell([here / "qianwen", "doctor"], tmp_path)
    shell([here / "qianwen", "demo", "--quick"], tmp_path, first=here)
    (report,) = tmp_path.glob("runs/*/report.html")
    assert report.stat().st_size > 10_000
