"""Small deliberate faults in a Python file: every place where one can be made, and what it becomes.

    comparisons    < ↔ <=   > ↔ >=   == ↔ !=   is ↔ is not   in ↔ not in
    arithmetic     + ↔ -    * → /    += ↔ -=
    logic          and ↔ or          `not` removed          a condition always true or always false
    constants      a number ± 1, True ↔ False; so default values change too
    statements     removed: a call, an assignment to an attribute or an item, an augmented assignment, `del`, `raise`
    control        break ↔ continue  return x → return None
    calls          a keyword argument or the last of several arguments removed, two neighbours swapped

A fault replaces a range of bytes; the rest of the file stays as it is. Left alone: strings, messages and logging,
annotations, decorators, assertions and `strict=`, `__repr__`, code for type checkers only.
"""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/")}
LOGIC = {ast.And: ("and", "or"), ast.Or: ("or", "and")}
MESSAGE_FUNCTIONS = {"tr", "print", "cast"}
MESSAGE_OBJECTS = {"console", "log", "logger", "logging", "warnings"}
TEXT_METHODS = {"__repr__", "__str__"}


@dataclass(frozen=True)
class Fault:
    """`text` instead of the bytes from `start` to `end` of the file at `path`."""

    path: str  # from the root of the checkout
    place: str  # qualified name of the function or class; "" for the module
    line: int
    start: int
    end: int
    text: str
    before: str  # the lines that change
    after: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The same fault after lines above it have come or gone."""
        return self.path, self.place, self.before, self.after

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


def faults_of(root: Path, path: str) -> list[Fault]:
    """Every fault that can be made in a file; of those that read the same, the first. Not all of them compile."""
    source = (root / path).read_bytes()
    collector = _Collector(source, path)
    collector.visit(ast.parse(source))
    return list({fault.key: fault for fault in reversed(collector.faults)}.values())[::-1]


def compiles(source: bytes) -> bool:
    try:
        compile(source, "fault", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


class _Collector(ast.NodeVisitor):
    def __init__(self, source: bytes, path: str) -> None:
        self.source, self.path = source, path
        self.line_starts = [0]
        for line in source.splitlines(keepends=True):
            self.line_starts.append(self.line_starts[-1] + len(line))
        self.places: list[str] = []
        self.faults: list[Fault] = []

    # Positions

    def _start(self, node: ast.AST) -> int:
        return self.line_starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def _end(self, node: ast.AST) -> int:
        return self.line_starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> str:
        return self.source[self._start(node) : self._end(node)].decode()

    def _add(self, start: int, end: int, text: str) -> None:
        first = self.source.rfind(b"\n", 0, start) + 1
        last = self.source.find(b"\n", end)
        last = len(self.source) if last < 0 else last
        before = self.source[first:last].decode().strip()
        after = (self.source[first:start].decode() + text + self.source[end:last].decode()).strip()
        line = self.source.count(b"\n", 0, start) + 1
        self.faults.append(Fault(self.path, ".".join(self.places), line, start, end, text, before, after))

    def _replace(self, node: ast.AST, *texts: str) -> None:
        for text in texts:
            self._add(self._start(node), self._end(node), text)

    def _operator(self, left: ast.AST, right: ast.AST, pair: tuple[str, str] | None) -> None:
        """Exchange the operator between two operands."""
        if pair is None:
            return
        start, end, old = self._end(left), self._start(right), pair[0].encode()
        if self.source.count(old, start, end) == 1:  # more: it is in a comment too
            position = self.source.index(old, start, end)
            self._add(position, position + len(old), pair[1])

    # Scopes

    def _visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name not in TEXT_METHODS:
            self.places.append(node.name)
            self._visit_all([*node.args.defaults, *node.args.kw_defaults, *node.body])
            self.places.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all([*node.args.defaults, *node.args.kw_defaults, node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.places.append(node.name)
        self._visit_all(node.body)
        self.places.pop()

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Left alone: before Python 3.12 what is in it has no exact position."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Left alone: assertions are for type checkers."""

    # Statements

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            if not isinstance(node.target, ast.Name):
                self._replace(node, "pass")
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._replace(node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass")
        self._operator(node.target, node.value, ARITHMETIC.get(type(node.op)))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and not _is_message(node.value):
            self._replace(node, "pass")
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._replace(node, "pass")

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace(node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not _is_none(node.value):
            self._replace(node.value, "None")
        self.generic_visit(node)

    # Conditions

    def visit_If(self, node: ast.If) -> None:
        if re.search(r"\b(TYPE_CHECKING|__name__)\b", self._text(node.test)):
            self._visit_all(node.orelse)
            return
        self._replace(node.test, "True", "False")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._replace(node.test, "True", "False")
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._replace(node.test, "False")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._replace(condition, "True", "False")
        self.generic_visit(node)

    # Expressions

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
            self._operator(left, right, COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._operator(node.left, node.right, ARITHMETIC.get(type(node.op)))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._operator(left, right, LOGIC[type(node.op)])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start = self._start(node)
            self._add(start, start + len("not "), "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int | float):
            self._replace(node, repr(round(node.value + 1, 9)), repr(round(node.value - 1, 9)))

    def visit_Call(self, node: ast.Call) -> None:
        if _is_message(node):
            return
        for left, right in zip(node.args, node.args[1:], strict=False):
            texts = self._text(left), self._text(right)
            if texts[0] != texts[1] and not any(isinstance(part, ast.Starred) for part in (left, right)):
                middle = self.source[self._end(left) : self._start(right)].decode()
                self._add(self._start(left), self._end(right), texts[1] + middle + texts[0])
        self._remove_arguments(node)
        self.generic_visit(node)

    def _remove_arguments(self, node: ast.Call) -> None:
        arguments = [*node.args, *node.keywords]
        removable: list[ast.expr | ast.keyword] = [keyword for keyword in node.keywords if keyword.arg != "strict"]
        if len(node.args) > 1 and not node.keywords:
            removable.append(node.args[-1])
        for argument in removable:
            i = arguments.index(argument)
            if i:
                self._add(self._end(arguments[i - 1]), self._end(argument), "")
            else:
                self._add(
                    self._start(argument), self._start(arguments[1]) if arguments[1:] else self._end(argument), ""
                )


def _is_message(call: ast.Call) -> bool:
    """Writes to a log or the screen, makes a message, or is for type checkers."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in MESSAGE_FUNCTIONS
    owner = function.value if isinstance(function, ast.Attribute) else None
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return name in MESSAGE_OBJECTS


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
