"""What a cell computed, if it printed nothing: a model that forgot `print` still sees its numbers and small tables.

    mean = d.score.mean()            Nothing was printed. Variables of this cell:
    by_city = d.groupby("city")…     mean = 66.6
                                     by_city: 3 rows …

`assigned` reads the names from the code; the cell that `listing` returns prints their values.
"""

from __future__ import annotations

import ast

MAX_NAMES = 20
_LISTING = """
def _show(names):
    for name in names:
        value = globals().get(name)
        kind = type(value)
        if kind.__module__.startswith("pandas") and kind.__name__ in ("Series", "DataFrame"):
            size = f"{len(value)} rows" + (f", columns {', '.join(map(str, value.columns))}" if value.ndim == 2 else "")
            is_small = value.size <= 60 and len(value) <= 12
            print(f"{name}: {size}" + (f"\\n{value.to_string()}" if is_small else ""))
        elif kind.__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
            print(f"{name} = {value.item()!r}")
        elif kind in (bool, int, float, complex, str, tuple, list, dict, set) and len(text := repr(value)) <= 300:
            print(f"{name} = {text}")
"""


def assigned(code: str) -> list[str]:
    """The names that a cell gives a value at its top level, in order; none for code that Python cannot parse."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError):
        return []
    names = []
    for statement in body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign | ast.AugAssign):
            targets = [statement.target]
        nodes = [node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
        names += [node.id for node in nodes if isinstance(node.ctx, ast.Store)]
    return list(dict.fromkeys(names))[:MAX_NAMES]


def listing(names: list[str]) -> str:
    """A cell that prints the values of names: numbers, short texts and lists, and tables with their size."""
    return f"{_LISTING}\n_show({names!r}); del _show"
