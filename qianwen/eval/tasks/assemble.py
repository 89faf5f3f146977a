"""A program from a model's reply: the function that a task asks for, and what that function needs.

    whole function   after the imports and functions that precede it in the task's prompt
    only its body    after the prompt, indented as a body
    several blocks   the block that defines the function; what it uses from other blocks is added
    no block         the lines of code among the prose

Only statements that the function needs are run: imports, functions, classes, constants, and loops that fill them.
Examples of use, `print`, `input`, the model's own tests and `if __name__ == "__main__"` are left out, because a mistake
in them says nothing about the function. A method of a class counts, and the only function if it has another name.

The released script takes the body of the function alone by regular expressions. It loses imports and functions that the
reply adds, and it runs the examples of use that follow the function; otherwise the two agree.
"""

import ast
import dis
import re
import textwrap
import types
from collections.abc import Sequence
from typing import NamedTuple

from qianwen.chat.code_blocks import code_block, code_blocks, longest_program, parse_program

ALWAYS = frozenset(["__future__", "*", "setrecursionlimit"])  # `from m import *` may bind any name


class Statement(NamedTuple):
    """A top-level statement: its lines, the names that it gives a value, and the global names that it reads."""

    lines: str
    binds: frozenset[str]
    reads: frozenset[str]


def assemble(prompt: str, reply: str, entry_point: str) -> str | None:
    """The program that defines `entry_point`, which `prompt` begins to define; None if the reply contains no code."""
    before = prompt[: _definition(entry_point, prompt)]
    block = code_block(reply, entry_point)
    body, code = _body(block), longest_program(block)
    is_body = body is not None and parse_program(block) is None  # it returns from a function that it does not define
    if not is_body and (name := _callable(code, entry_point)) is not None:
        others = [each for each in code_blocks(reply) if each != block]
        alias = "" if name == entry_point else f"\n\n{entry_point} = {name}\n"
        return _future_first(before + _needed_by(name.partition("(")[0], [code, *others]) + alias)
    if _definition(entry_point, block) < len(block):
        return before + block  # it defines the function, but Python cannot read it
    return None if body is None else prompt.rstrip("\n") + "\n" + body


def _definition(name: str, text: str) -> int:
    """Where `def name` begins in `text`; the length of `text` if it does not."""
    found = re.search(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(name)}\b", text, re.M)
    return found.start() if found else len(text)


def _callable(code: str, entry_point: str) -> str | None:
    """What to call: the function's name, `Class().method`, or the name of the only function in `code`."""
    tree = parse_program(code)
    body = tree.body if tree else []
    if any(entry_point in _binds(node, frozenset()) for node in body):
        return entry_point
    for node in body:
        if isinstance(node, ast.ClassDef) and any(getattr(each, "name", "") == entry_point for each in node.body):
            return f"{node.name}().{entry_point}"
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    return functions[0] if len(functions) == 1 else None


def _body(code: str) -> str | None:
    """`code` as the body of a function, indented; None if it is not Python. The first line may lack its indentation."""
    code = code.strip("\n")
    for body in (textwrap.indent(textwrap.dedent(code), "    "), "    " + code.lstrip()):
        if code.strip() and parse_program(f"def function():\n{body}\n") is not None:
            return body + "\n"
    return None


def _future_first(program: str) -> str:
    """`from __future__ import …` must be the first statement."""
    futures = re.findall(r"^from __future__ import .*\n", program, re.M)
    return "".join(futures) + re.sub(r"^from __future__ import .*\n", "", program, flags=re.M)


# ---- the statements that a function needs ------------------------------------------------------------------------


def _needed_by(name: str, blocks: Sequence[str]) -> str:
    """The statements of `blocks` that `name` needs. The first block that binds a name decides what the name is."""
    statements: list[Statement] = []
    for block in blocks:
        bound = frozenset[str]().union(*(each.binds for each in statements))
        statements = [each for each in _statements(block) if not each.binds & bound] + statements
    needed, kept = {name, *ALWAYS}, set[int]()
    while more := [i for i, each in enumerate(statements) if i not in kept and each.binds & needed]:
        kept.update(more)
        needed.update(*(statements[i].reads for i in more))
    return "".join(statements[i].lines for i in sorted(kept))


def _statements(code: str) -> list[Statement]:
    """The top-level statements of `code`; those that share a line are one."""
    tree = parse_program(code)
    body, lines, end = (tree.body if tree else []), code.splitlines(keepends=True), 0
    modules = frozenset(name for node in body if isinstance(node, ast.Import) for name in _binds(node, frozenset()))
    statements: list[Statement] = []
    for node in body:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]) - 1
        binds, reads = _binds(node, modules), _reads(compile(ast.Module([node], []), "<reply>", "exec"))
        if first < end:
            last = statements.pop()
            statements.append(Statement(last.lines, last.binds | binds, last.reads | reads))
        else:
            text = "".join(lines[first : node.end_lineno]).rstrip("\n") + "\n"
            is_definition = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            statements.append(Statement(f"\n\n{text}" if is_definition and statements else text, binds, reads))
        end = node.end_lineno or end
    return statements


def _binds(node: ast.stmt, modules: frozenset[str]) -> frozenset[str]:
    """Names that a top-level statement gives a value, changes, or fills by a method; `modules` are never filled."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return frozenset([node.name])
    if isinstance(node, ast.If) and "'__name__'" in ast.dump(node.test):
        return frozenset()
    names = {"__future__"} if isinstance(node, ast.ImportFrom) and node.module == "__future__" else set()
    for each in ast.walk(node):
        match each:
            case ast.alias():
                names.add((each.asname or each.name).partition(".")[0])
            case ast.FunctionDef() | ast.ClassDef():
                names.add(each.name)
            case ast.Name(ctx=ast.Store()):
                names.add(each.id)
            case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
                names.add(_root(each))
            case ast.Call(func=ast.Attribute(attr=attribute)):
                names.update({attribute} & ALWAYS, {_root(each)} - modules)
    return frozenset(names)


def _root(node: ast.AST) -> str:
    """The name at the beginning of `name.a[0].b()`; empty if it begins with something else."""
    while not isinstance(node, ast.Name):
        inner = getattr(node, "func", None) or getattr(node, "value", None)
        if not isinstance(inner, ast.AST):
            return ""
        node = inner
    return node.id


def _reads(code: types.CodeType) -> frozenset[str]:
    """The global names that `code` and the functions in it read."""
    names = {each.argval for each in dis.get_instructions(code) if re.match("LOAD_.*(GLOBAL|NAME)", each.opname)}
    inner = [_reads(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return frozenset(names).union(*inner)
