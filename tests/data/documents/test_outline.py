"""Source becomes documentation that is source again."""

import ast
import textwrap
from pathlib import Path

import pytest

from qianwen.data.documents.outline import outline

SOURCE = '''
"""About the module."""
import os

class Thing:
    """About the class."""
    async def size(self, unit: str = "B", *more, exact=False) -> int:
        """Return the size.

        Or fail:
            sometimes."""
        return os.stat(self).st_size
    def plain(self):
        return 1
    def _hidden(self):
        """Nobody asks."""
'''


def test_only_documented_public_functions_stay() -> None:
    text = outline(SOURCE)
    assert text.startswith(
        '"""About the module."""\n\ndef size(self, unit: str=\'B\', *more, exact=False):\n    """Return'
    )
    assert "plain" not in text and "hidden" not in text and "st_size" not in text
    (_, function) = ast.parse(text).body
    assert ast.get_docstring(function) == "Return the size.\n\nOr fail:\n    sometimes."  # type: ignore[arg-type]


def test_nothing_documented_is_nothing() -> None:
    assert outline('"""About."""\nx = 1') == outline("def f(): pass") == ""


def test_another_language_is_an_error() -> None:
    with pytest.raises(SyntaxError):
        outline("function f() { return 1; }")


def test_a_real_module_keeps_its_docstrings() -> None:
    text = outline(Path(textwrap.__file__).read_text(encoding="utf-8"))
    assert "def dedent(text):" in text and "Remove any common leading whitespace" in text
    assert len(ast.parse(text).body) >= 5


def test_quotes_and_backslashes_survive() -> None:
    source = "def f():\n    r'''Return \\d or \"\"\"it\"\"\".'''"
    (function,) = ast.parse(outline(source)).body
    assert ast.get_docstring(function) == 'Return \\d or """it""".'  # type: ignore[arg-type]
