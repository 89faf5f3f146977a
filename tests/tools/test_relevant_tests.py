"""Which tests a change of a source file concerns."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FILES = {
    "qianwen/__init__.py": "",
    "qianwen/a/__init__.py": "",
    "qianwen/a/low.py": "",
    "qianwen/a/high.py": "from qianwen.a.low import x",
    "qianwen/a/apart.py": "",
    "qianwen/a/inner/__init__.py": "from qianwen.a import low",
    "tests/conftest.py": "",
    "tests/a/test_low.py": "",
    "tests/a/test_direct.py": "def test():\n    from qianwen.a import low",
    "tests/a/test_high.py": "import qianwen.a.high",
    "tests/a/test_apart.py": "import qianwen.a.apart",
    "tests/a/inner/conftest.py": "import qianwen.a.high",
    "tests/a/inner/test_init.py": "",
    "tests/b/test_other.py": "import qianwen.a.low",
}


@pytest.fixture
def relevant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "tools")
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return importlib.import_module("relevant_tests")


def test_the_mirrored_test_comes_first_then_by_distance(relevant, tmp_path):
    graph = relevant.import_graph(tmp_path)
    tests = relevant.relevant_tests(tmp_path, "qianwen/a/low.py", graph)
    assert [Path(test).name for test in tests] == ["test_low.py", "test_direct.py", "test_high.py", "test_init.py"]


def test_a_package_is_mirrored_by_test_init_and_imported_with_its_modules(relevant, tmp_path):
    assert relevant.mirrored_test("qianwen/a/inner/__init__.py") == "tests/a/inner/test_init.py"
    tests = relevant.relevant_tests(tmp_path, "qianwen/a/__init__.py", relevant.import_graph(tmp_path))
    assert {Path(test).name for test in tests} == {"test_direct.py", "test_high.py", "test_apart.py", "test_init.py"}


def test_tests_that_do_not_reach_the_file_are_left_out(relevant, tmp_path):
    tests = relevant.relevant_tests(tmp_path, "qianwen/a/apart.py", relevant.import_graph(tmp_path))
    assert tests == ["tests/a/test_apart.py"]
