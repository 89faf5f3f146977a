"""Jinja for templates that strangers wrote: no code, no files, and limits of size and time.

Jinja's own sandbox keeps a template away from Python's internals. It does not keep it from filling the memory or
running for ever, so here every operation that can make a text or a list larger checks the size first, whatever can grow
without such a check is left out, and a template that runs for longer than `MAX_SECONDS` is stopped. The names and
filters are those that chat templates use; they behave as in transformers (`tojson` keeps `<` and letters of all
languages).

Not here: what is done with the text (`template.py`).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from qianwen.chat.templates.limits import (
    MAX_ITEMS,
    MAX_TEXT,
    TooLarge,
    bounded,
    check_product,
    concat,
    container,
    indent_filter,
    join,
    join_filter,
    replace,
    replace_filter,
    tojson,
)
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.runtime.translation import tr

MAX_TEMPLATE = 1 << 18  # characters of a template's text
MAX_SECONDS = 10.0
WIDTH = re.compile(r"\d{4}|\{[^{}]*\{")  # in a format: a large number, or one that is an argument
COMPILED = "<template>"  # the file name of the code that Jinja makes of a template
FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int"),
    *("items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round"),
    *("safe", "select", "selectattr", "sort", "string", "title", "trim", "unique", "upper"),
)
TEXT_METHODS = frozenset(
    (
        *("capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdigit", "islower"),
        *("isspace", "isupper", "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace"),
        *("rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip"),
        *("swapcase", "title", "upper"),
    )
)


class CompiledTemplate:
    """A template that is checked and ready; `render` runs it. Raises ConfigError, with the line, for a wrong one."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEMPLATE:
            message = "the chat template of this model has {size:,} characters; at most {most:,} are read"
            raise ConfigError(tr(message, size=len(text), most=MAX_TEMPLATE))
        environment = _Environment()
        try:
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(text)))
            self._template = environment.from_string(text)
        except TemplateSyntaxError as error:
            message = "the chat template of this model has an error in line {line}: {reason}"
            raise ConfigError(tr(message, line=error.lineno, reason=error.message)) from None
        except (RecursionError, SyntaxError, ValueError, MemoryError) as error:
            message = "the chat template of this model cannot be compiled: {reason}"
            raise ConfigError(tr(message, reason=type(error).__name__)) from None

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text for these variables. RequestError, with the line, if the template fails or refuses them."""
        try:
            with _deadline():
                parts, size = [], 0
                for part in self._template.generate(**variables):
                    parts.append(part)
                    size += len(part)
                    if size > MAX_TEXT:
                        raise TooLarge
                return "".join(parts)
        except _Refused as error:
            message = "the chat template of this model refuses the conversation: {reason}"
            raise RequestError(tr(message, reason=str(error)[:500]), param="messages") from None
        except Exception as error:  # whatever a template raises is an error of that template
            message = "the chat template of this model failed in line {line}: {reason}"
            reason = str(error) or type(error).__name__
            code = "timeout" if isinstance(error, _TooSlow) else None
            raise RequestError(
                tr(message, line=_line(error), reason=reason[:500]), param="messages", code=code
            ) from None


class _Refused(TemplateError):
    """The template called `raise_exception`."""


class _TooSlow(SecurityError):
    def __str__(self) -> str:
        return tr("it ran for more than {seconds:g} seconds", seconds=MAX_SECONDS)


@contextmanager
def _deadline() -> Iterator[None]:
    """Stop what runs inside after MAX_SECONDS.

    Python calls the trace function whenever this thread enters a function, and at every line of the template's own.
    """
    end = time.monotonic() + MAX_SECONDS

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if time.monotonic() > end:
            raise _TooSlow
        return trace if frame.f_code.co_filename == COMPILED else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def _line(error: BaseException) -> int:
    """The line of the template in which `error` was raised; Jinja writes it into the traceback."""
    line, step = 1, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == COMPILED:
            line = step.tb_lineno
        step = step.tb_next
    return line


# ---- the environment ------------------------------------------------------------------------------------------------


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "*", "%", "**"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
        own = {"join": join_filter, "replace": replace_filter, "indent": indent_filter, "tojson": tojson}
        self.filters = {name: self.filters[name] for name in FILTERS} | own
        self.filters |= {"0container": container, "0concat": concat}  # no template can write these names
        names: dict[str, Any] = {
            "range": self.globals["range"],
            "dict": _dict,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        self.globals = names

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Sizes().visit(super()._parse(source, name, filename))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, (str, bytes, int, float)) and attr not in TEXT_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's own `format`, which reads no attributes of Python. A width in it would make a text of any size."""
        wrapper = super().wrap_str_format(value)
        if wrapper is not None and WIDTH.search(value.__self__):
            raise TooLarge
        return wrapper

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            if len(left) + len(right) > (MAX_TEXT if isinstance(left, str) else MAX_ITEMS):
                raise TooLarge
            return bounded(super().call_binop(context, operator, left, right))
        if operator == "*":
            check_product(left, right)
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(tr("chat templates cannot use this operator: {operator}", operator=operator))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        text, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(text, str):  # Jinja passes the variables of a loop to whatever is called
            kwargs = {key: value for key, value in kwargs.items() if key not in ("_loop_vars", "_block_vars")}
        if isinstance(text, str) and name == "replace":
            return replace(text, *args, **kwargs)
        if isinstance(text, str) and name == "join":
            return join(args[0], text)
        return super().call(context, obj, *args, **kwargs)


class _Sizes(NodeTransformer):
    """Puts a check of the size around every list, object and `~` of a template."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered("0concat", nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered("0container", node) if node.items else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filtered("0container", node) if node.items else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered("0container", node) if node.ctx == "load" and node.items else node


def _filtered(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text in some templates; its body is written as it is."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """A namespace whose attributes cannot hide Python's own."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_attribute(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)


def _check_attribute(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError(tr("a namespace cannot have the attribute {name!r}", name=name))


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return bounded(dict(*args, **kwargs))


def _raise_exception(message: object) -> None:
    raise _Refused(str(bounded(message)))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(str(format)[:100])
