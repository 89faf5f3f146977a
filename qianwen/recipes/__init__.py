"""Recipes: functions that return the configuration of a stage, in typed Python.

A recipe only chooses values and says where each comes from; what the values do is documented at the dataclass. A value
that no document gives has the comment `not published: our choice`. Your own recipe may be in any module:
`my_module:my_function`.
"""

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import typing
from types import ModuleType
from typing import TypeVar

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

T = TypeVar("T")


def load_recipe(spec: str, kind: type[T], command: str) -> T:
    """The configuration that `spec` names: `tiny`, `qwen_7b:memo` or `module:function`.

    The function may be left out where the module has only one that returns `kind`, or one called like the command.
    Raises ConfigError for an unknown recipe, and for an option in the place of the recipe.
    """
    if spec.startswith("-"):
        message = (
            "the recipe is missing: {command} needs it before {option}, as in `qianwen {command} tiny {option} …`; "
            "known: {all}"
        )
        raise ConfigError(tr(message, command=command, option=spec.partition("=")[0], all=", ".join(_own())))
    name, _, function = spec.partition(":")
    recipes = {
        known: recipe
        for known, recipe in inspect.getmembers(_module(name), inspect.isfunction)
        if typing.get_type_hints(recipe).get("return") is kind
    }
    if not function:
        function = next(iter(recipes)) if len(recipes) == 1 else command
    if function not in recipes:
        every = ", ".join(f"{name}:{known}" for known in recipes) or tr("none")
        message = "{spec} is not a recipe for {kind}; known: {all}"
        if len(recipes) > 1 and spec == name:
            message = "{spec} has several recipes for {kind}: choose one of {all}"
        raise ConfigError(tr(message, spec=spec, kind=kind.__name__, all=every))
    return recipes[function]()


def _own() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _module(name: str) -> ModuleType:
    ours = _own()
    if name in ours:
        return importlib.import_module(f"{__name__}.{name}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise _unknown(name, ours)
    if "" not in sys.path:
        sys.path.insert(0, "")  # a recipe in the current folder, where `python -m` looks too
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's own file raises
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise _unknown(name, ours) from error
        message = "the recipe {name} cannot be imported: {kind}: {error}"
        raise ConfigError(tr(message, name=name, kind=type(error).__name__, error=error)) from error


def _unknown(name: str, ours: list[str]) -> ConfigError:
    close = difflib.get_close_matches(name, ours, n=1)
    hint = tr("did you mean {name}?", name=close[0]) if close else tr("known: {all}", all=", ".join(ours))
    return ConfigError(tr("no recipe {name}: {hint}", name=name, hint=hint))
