"""Parse the arguments of a command: tyro, with help in the user's language and the names that the documents use.

The English help is the docstring of each field. Its Chinese form is in `help_zh.toml`, with the few words that tyro
itself writes. Chinese characters are two columns wide, but tyro counts each as one. So each gets an invisible partner
before tyro breaks the lines, and the partners are removed from what it prints.
"""

import contextlib
import dataclasses
import functools
import io
import operator
import re
import sys
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TextIO, TypeVar, get_args, get_origin

import tyro
from rich.cells import cell_len
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from qianwen.runtime.translation import language

T = TypeVar("T")
PARTNER = "\ue000"  # from the private-use area, so in no text
METAVARS = {
    "model": "MODEL", "models": "MODEL", "codes": "MODEL", "start_from": "MODEL", "base": "MODEL", "data": "PATH",
    "input": "FILE", "inputs": "PATH", "out": "PATH", "output": "PATH", "to": "FOLDER", "folder": "FOLDER",
    "run": "RUN", "tasks": "TASK", "words": "FILE", "labels": "FILE", "test": "FILE", "filter": "FOLDER",
    "tokenizer": "VOCABULARY", "tokenizers": "VOCABULARY", "vocabulary": "VOCABULARY", "name": "NAME",
    "blocklist": "FILE", "benchmarks": "PATH", "host": "ADDRESS", "adapter": "NAME=ADAPTER",
    "diff": "FOLDER", "training_corpus": "PATH",
}  # fmt: skip
ENGLISH = {  # Python's words in tyro's errors
    r"invalid literal for int\(\) with base 10:": "not an integer:",
    r"could not convert string to float:": "not a number:",
}
FLAT = ("pretrain",)  # fields whose own fields are options without a prefix
PLAIN_METAVARS = {str: "TEXT", int: "N", float: "X", Path: "PATH"}


def parse(kind: Callable[..., T], prog: str, args: Sequence[str], *, default: T | None = None) -> T:
    """The options of a command, as an instance of the dataclass `kind`. Help and errors are printed and exit."""
    return _cli(kind, prog, args, description=_described(kind), **({} if default is None else {"default": default}))


def is_recipe(spec: str) -> bool:
    """Whether `spec` is `module:function`, and not a path with the letter of a drive."""
    module, colon, function = spec.partition(":")
    return bool(colon) and module.replace(".", "_").isidentifier() and function.isidentifier()


def parse_subcommand(commands: Mapping[str, Callable[..., Any]], prog: str, args: Sequence[str]) -> Any:
    """The options of the chosen subcommand, if it is a dataclass; of a function, the function with its arguments.

    A function is not called here, because what tyro prints is translated, but what the function prints is not.
    """
    choices: list[Any] = []
    for name, command in commands.items():
        is_class = isinstance(command, type)
        constructor = None if is_class else _bind(command)
        settings = tyro.conf.subcommand(name, description=_described(command), constructor=constructor)
        kind: Any = command if is_class else Any
        choices.append(Annotated[kind, settings])
    return _cli(functools.reduce(operator.or_, choices), prog, args)


def _bind(function: Callable[..., T]) -> Callable[..., Callable[[], T]]:
    @functools.wraps(function)
    def bind(*args: Any, **values: Any) -> Callable[[], T]:
        return functools.partial(function, *args, **values)

    return bind


def _cli(kind: Any, prog: str, args: Sequence[str], **settings: Any) -> Any:
    registry = ConstructorRegistry()
    registry.struct_rule(_FieldRule())
    registry.primitive_rule(_number_or_none)
    with _translated_output():
        return tyro.cli(kind, prog=prog, args=args, registry=registry, **settings)


def _number_or_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """`int | None` and `float | None`: tyro would answer a wrong value with the types that it tried."""
    parts = set(get_args(info.type))
    number = next(iter(parts - {NoneType}), None)
    if NoneType not in parts or len(parts) != 2 or number not in (int, float):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=PLAIN_METAVARS[number],
        instance_from_str=lambda words: None if words[0] == "None" else number(words[0]),
        is_instance=lambda value: value is None or isinstance(value, number),
        str_from_instance=lambda value: [str(value)],
    )


class _FieldRule:
    """tyro's own description of a dataclass, with our help texts and names of values."""

    def __init__(self) -> None:
        self._is_inside = False

    def __call__(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        if self._is_inside or not dataclasses.is_dataclass(info.type):
            return None
        self._is_inside = True
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self._is_inside = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(map(_field, spec.fields)))


def _field(field: StructFieldSpec) -> StructFieldSpec:
    plain = _plain(field.type)
    metavar = METAVARS.get(field.name, PLAIN_METAVARS[plain]) if plain in PLAIN_METAVARS else None
    kind: Any = Annotated[field.type, tyro.conf.arg(metavar=metavar)] if metavar else field.type
    if field.name in FLAT:
        kind = Annotated[field.type, tyro.conf.arg(name="")]
    return dataclasses.replace(field, type=kind, helptext=functools.partial(_help, field))


def _plain(kind: Any) -> Any:
    """`str` of `Annotated[str, …]`, of `str | None` and of `tuple[str, ...]`."""
    if get_origin(kind) is tuple and get_args(kind)[1:] != (Ellipsis,):
        return kind
    inside = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
    is_wrapped = inside and (get_origin(kind) in (Annotated, tuple) or len(inside) == 1)
    return _plain(inside[0]) if is_wrapped else kind


def _help(field: StructFieldSpec) -> str | None:
    text = field.helptext() if callable(field.helptext) else field.helptext
    if text is None and dataclasses.is_dataclass(kind := _plain(field.type)):
        return _described(kind)
    return None if text is None else localized(text)


def _described(kind: Any) -> str | None:
    """The docstring of a command in the user's language; None leaves it to tyro."""
    return localized(kind.__doc__) if kind.__doc__ and language() == "zh" else None


def localized(text: str) -> str:
    """A help text in the user's language. Line breaks of the source code do not count."""
    if language() != "zh":
        return text
    return _widened(_chinese()["help"].get(" ".join(text.split()), text))


@functools.cache
def _chinese() -> dict[str, dict[str, str]]:
    return tomllib.loads(resources.files("qianwen.cli").joinpath("help_zh.toml").read_text(encoding="utf-8"))


def _widened(text: str) -> str:
    """`text` with a partner after each character that is two columns wide."""
    return "".join(c + PARTNER if unicodedata.east_asian_width(c) in "WF" else c for c in text)


class _Captured(io.TextIOWrapper):
    """A stream that holds what is written. Its encoding is that of `stream`, from which tyro chooses its lines."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(io.BytesIO(), encoding=stream.encoding, errors="replace")
        self.stream = stream
        self._parts: list[str] = []

    def write(self, text: str, /) -> int:
        self._parts.append(text)
        return len(text)

    def text(self) -> str:
        return "".join(self._parts)


@contextlib.contextmanager
def _translated_output() -> Iterator[None]:
    """Translate what tyro prints, which is help or an error."""
    is_chinese = language() == "zh"
    words = _chinese()["words"] if is_chinese else ENGLISH
    out, error = _Captured(sys.stdout), _Captured(sys.stderr)
    try:
        with contextlib.redirect_stdout(out if is_chinese else sys.stdout), contextlib.redirect_stderr(error):
            yield
    finally:
        for captured in (out, error):
            lines = (_translated_line(line, words) for line in captured.text().split("\n"))
            print("\n".join(lines), end="", file=captured.stream, flush=True)


def _translated_line(line: str, words: Mapping[str, str]) -> str:
    """A line of tyro's output with other words, and as wide as before if it is part of a box."""
    new = line.replace(PARTNER, "")
    for english, chinese in words.items():
        new = re.sub(english, chinese, new)
    lack = len(line) - cell_len(new)
    if new[-1:] in ("│", "╮", "╯") and lack:
        fill, border = " " if new[-1] == "│" else "─", new[-1]
        body = new[:-1]
        new = (body + fill * lack if lack > 0 else body[:lack] if body.endswith(fill * -lack) else body) + border
    return new
