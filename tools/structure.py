"""Measure the shape of the package: sizes, imports across chapters, repeated lines, comments.

    python tools/structure.py [FOLDER]       FOLDER: another checkout of this project; default: this one

Prints one `NAME VALUE` a line, so that two checkouts can be compared with `diff` or `paste`. Lines count without blank
ones; a comment is a line that begins with `#` or `//`, and clever code is what lies in C++ or does paging, scheduling
and deduplication.
"""

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from itertools import pairwise
from pathlib import Path

SAME_LINES = 6  # in a row, that make two places a repetition


def code_lines(path: Path) -> list[str]:
    """Lines that are neither blank nor comments nor part of a docstring, without their indentation."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    skipped = docstring_lines(text) if path.suffix == ".py" else set()
    mark = "#" if path.suffix == ".py" else "//"
    return [
        line.strip()
        for number, line in enumerate(lines, 1)
        if line.strip() and number not in skipped and not line.strip().startswith(mark)
    ]


def docstring_lines(text: str) -> set[int]:
    """Numbers of the lines that docstrings take."""
    numbers: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                numbers |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return numbers


def num_comments(path: Path) -> int:
    """Comments in a file; in Python those behind code count too."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return sum("//" in line for line in text.splitlines())
    return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))


def cross_imports(package: Path) -> int:
    """Imports from one chapter of another, `runtime` not counted."""
    count = 0
    for path in package.rglob("*.py"):
        chapter = path.relative_to(package).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qianwen."):
                target = (node.module or "").split(".")[1]
                count += target not in (chapter, "runtime")
    return count


def repeated_pairs(files: list[Path]) -> int:
    """Pairs of places that share SAME_LINES lines in a row; a longer shared run counts once."""
    places: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for number, path in enumerate(files):
        lines = code_lines(path)
        for start in range(len(lines) - SAME_LINES + 1):
            places.setdefault(tuple(lines[start : start + SAME_LINES]), []).append((number, start))
    runs: Counter[tuple[int, int, int]] = Counter()
    for spots in places.values():
        for a, b in pairwise(spots):
            runs[a[0], b[0], b[1] - a[1]] += 1
    return len(runs)


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    package = root / "qianwen"
    python = sorted(package.rglob("*.py"))
    native = sorted(path for ending in ("*.h", "*.cpp") for path in package.rglob(ending))
    sizes = [len(code_lines(path)) for path in python]
    tests = [len(code_lines(path)) for path in (root / "tests").rglob("*.py")]
    lines = sum(sizes) + sum(len(code_lines(path)) for path in native)
    values = {
        "files": len(python) + len(native),
        "folders": len({path.parent for path in python}),
        "lines": lines,
        "lines_of_tests": sum(tests),
        "median_file": statistics.median(sizes),
        "longest_file": max(sizes),
        "cross_imports": cross_imports(package),
        "repeated_pairs": repeated_pairs(python),
        "comments_per_100_lines": round(100 * sum(map(num_comments, [*python, *native])) / lines, 2),
        "comments_per_100_lines_of_cpp": round(
            100 * sum(map(num_comments, native)) / sum(len(code_lines(path)) for path in native), 2
        ),
    }
    for name, value in values.items():
        print(name, value)


if __name__ == "__main__":
    main()
