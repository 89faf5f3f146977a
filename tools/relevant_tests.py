"""Which test files of a chapter can notice a change in a source file, the most relevant first.

The mirrored test file comes first, then those that import the source file directly, then those that reach it through
other files of the package. What a `conftest.py` imports counts one step further for every test beside or below it.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "qianwen"
Graph = dict[str, set[str]]  # a file → the files that it imports; paths from the root of the checkout


def mirrored_test(path: str) -> str:
    """`qianwen/data/curate/rules.py` → `tests/data/curate/test_rules.py`"""
    source = Path(path)
    stem = "init" if source.stem == "__init__" else source.stem
    return str(Path("tests", *source.parts[1:-1], f"test_{stem}.py"))


def import_graph(root: Path) -> Graph:
    """Of every Python file of the package and its tests."""
    files = [*(root / PACKAGE).rglob("*.py"), *(root / "tests").rglob("*.py")]
    return {str(path.relative_to(root)): _imports(root, path) for path in files}


def relevant_tests(root: Path, path: str, graph: Graph) -> list[str]:
    """Test files of the chapter of a source file at `path` that reach it, nearest first."""
    mirror, chapter = mirrored_test(path), Path(path).parts[1]
    importers: Graph = {}
    for importer, imported in graph.items():
        for name in imported:
            importers.setdefault(name, set()).add(importer)
    distances, border = {path: 0}, [path]
    while border:
        names = {name for file in border for name in importers.get(file, ())} - distances.keys()
        distances |= dict.fromkeys(names, distances[border[0]] + 1)
        border = sorted(names)
    tests = sorted((root / "tests" / chapter).rglob("test_*.py"))
    names = [name for test in tests if (name := str(test.relative_to(root))) in distances or name == mirror]
    return sorted(names, key=lambda name: (name != mirror, distances.get(name, 0), name))


def _imports(root: Path, path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return _files(root, modules) | _conftests(root, path)


def _files(root: Path, modules: Iterable[str]) -> set[str]:
    """The files of the package that are loaded for modules: their own, and those of the packages around them."""
    files = set()
    for module in modules:
        parts = module.split(".")
        if parts[0] == PACKAGE:
            around = [Path(*parts[:length], "__init__.py") for length in range(1, len(parts) + 1)]
            files |= {str(file) for file in [*around, Path(*parts).with_suffix(".py")] if (root / file).is_file()}
    return files


def _conftests(root: Path, path: Path) -> set[str]:
    if not path.is_relative_to(root / "tests") or path.name == "conftest.py":
        return set()
    folders = [folder for folder in path.parents if folder.is_relative_to(root / "tests")]
    return {str((folder / "conftest.py").relative_to(root)) for folder in folders if (folder / "conftest.py").is_file()}
