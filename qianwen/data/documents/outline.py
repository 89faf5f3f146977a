"""Python source as its documentation: signatures and docstrings, without the bodies.

A small model learns more English from what functions are said to do than from how they do it. The outline is Python
again, so whatever reads source reads it too; methods stand beside functions, and what is private or undocumented is
left out.
"""

import ast
import warnings


def outline(source: str) -> str:
    """The documented public functions of `source`; empty if it has none. Raises SyntaxError if it is not Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old modules hold escapes that new Pythons warn of
        tree = ast.parse(source)
    about = ast.get_docstring(tree)
    parts = [f'"""{_escaped(about)}"""'] if about else []
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    documented = [(node, about) for node in functions if (about := ast.get_docstring(node)) and node.name[0] != "_"]
    for node, about in documented:
        indented = _escaped(about).replace("\n", "\n    ").replace("\n    \n", "\n\n")
        parts.append(f'def {node.name}({ast.unparse(node.args)}):\n    """{indented}"""')
    return "\n\n".join(parts) if documented else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', r"\"\"\"")
