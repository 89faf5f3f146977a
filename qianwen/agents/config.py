"""AGENT.json: an agent as a file.

    {"name": "accountant",
     "instructions": "Answer in one sentence.",
     "model": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",       or "url" with the "model" that is served there
     "tools": ["calculator",                                   a built-in tool
               {"name": "files", "folder": "reports"},         with options
               {"openapi": "shop.json"},                       all operations of a web service
               "my_tools:convert",                             a Python function with type hints, or a Tool
               {"function": "my_tools:area", "effect": "none"}],
     "permissions": {"convert": "allow", "sends": "deny"},     by tool or effect
     "budget": {"calls": 10, "seconds": 60},
     "sampling": {"temperature": 0},
     "style": "react"}                                         how calls are written; by default the model's own format

A field that does not exist is an error, because it would be ignored. Paths, and modules of functions, are looked up
from the folder of the file. Loading a file imports those modules: only load files that you trust, as with any program.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qianwen.agents.budget import Budget
from qianwen.agents.policy import Policy
from qianwen.agents.tool import Tool
from qianwen.agents.tools.functions import function_tool
from qianwen.runtime.errors import ConfigError, excerpt
from qianwen.runtime.translation import tr

# Without these sentences Qwen2.5-Coder-1.5B makes each call again and again, and never answers.
INSTRUCTIONS = (
    "You are a helpful assistant. Call functions one after another until you know all that the user asked for. "
    "Never make the same call twice. Then answer the user in a sentence."
)
Factory = Callable[..., Tool | Sequence[Tool]]
PATH_OPTIONS = ("openapi", "schema", "folder")  # options of tools that are paths


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """What AGENT.json says. `folder` is where the file is."""

    name: str = "agent"
    instructions: str = INSTRUCTIONS
    model: str = ""
    url: str = ""
    tools: Sequence[str | Mapping[str, Any]] = ()
    permissions: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget = Budget()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""
    folder: Path = Path()

    @property
    def policy(self) -> Policy:
        """The policy with the permissions of the file."""
        return Policy(permissions=self.permissions)


def read_config(path: Path) -> AgentConfig:
    """Read AGENT.json. Raises ConfigError that names the field that is wrong."""
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(tr("cannot read {path}: {reason}", path=path, reason=error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(tr("{path} is not valid JSON: {reason}", path=path, reason=error)) from error
    known = {each.name: each for each in dataclasses.fields(AgentConfig) if each.name != "folder"}
    record = _checked(record, known, str(path))
    kinds = {"tools": list, "permissions": dict, "budget": dict, "sampling": dict}
    for name, value in record.items():
        kind = kinds.get(name, str)
        if not isinstance(value, kind):
            words = {str: tr("text"), list: tr("a list"), dict: tr("an object")}
            message = "{path}: `{name}` must be {kind}; got {value}"
            raise ConfigError(tr(message, path=path, name=name, kind=words[kind], value=excerpt(value)))
    limits = _checked(record.pop("budget", {}), [each.name for each in dataclasses.fields(Budget)], f"{path}, budget")
    return AgentConfig(**record, budget=Budget(**limits), folder=path.parent)


def make_tools(config: AgentConfig, factories: Mapping[str, Factory]) -> list[Tool]:
    """The tools of an agent. `factories` are the built-in ones by name; their keyword arguments are the options."""
    tools: list[Tool] = []
    for entry in config.tools:
        made = _make(entry, config, factories)
        tools += [made] if isinstance(made, Tool) else made
    return tools


def _make(entry: Any, config: AgentConfig, factories: Mapping[str, Factory]) -> Tool | Sequence[Tool]:
    if not isinstance(entry, str | Mapping):
        raise ConfigError(tr("an entry of tools must be a name or an object; got {value}", value=excerpt(entry)))
    options = {"function" if ":" in entry else "name": entry} if isinstance(entry, str) else dict(entry)
    if function := options.pop("function", None):
        return _from_function(function, options, config.folder)
    options = {name: _path(config.folder, value) if name in PATH_OPTIONS else value for name, value in options.items()}
    name = "openapi" if "openapi" in options else options.pop("name", None)
    if not isinstance(name, str) or name not in factories:
        raise ConfigError(tr("no tool {name}: {hint}", name=excerpt(name), hint=_hint(str(name), factories)))
    positional = [options.pop("openapi")] if name == "openapi" and "openapi" in options else []
    parameters = list(inspect.signature(factories[name]).parameters.values())[len(positional) :]
    options = _checked(options, [each.name for each in parameters], tr("tool {name}", name=name))
    if missing := [each.name for each in parameters if each.default is each.empty and each.name not in options]:
        raise ConfigError(tr("the tool {name} needs the option {option}", name=name, option=missing[0]))
    return factories[name](*positional, **options)


def _from_function(spec: Any, options: dict[str, Any], folder: Path) -> Tool:
    """The function `module:function`, as a tool with these options; or the `Tool` of that name."""
    module, _, name = str(spec).partition(":")
    if (place := str(folder.resolve())) not in sys.path:
        sys.path.insert(0, place)
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        message = "cannot load the tool {spec} ({reason}); write it as MODULE:FUNCTION"
        raise ConfigError(tr(message, spec=excerpt(spec), reason=error)) from error
    if isinstance(value, Tool):
        known = ("effect", "is_trusted")
        return dataclasses.replace(value, **_checked(options, known, str(spec)))
    if not callable(value):
        raise ConfigError(tr("{spec} is not a function or a Tool", spec=spec))
    return function_tool(value, **_checked(options, ("effect", "is_trusted", "name"), str(spec)))


def _path(folder: Path, value: Any) -> Any:
    is_local = isinstance(value, str) and "://" not in value
    return folder / Path(value).expanduser() if is_local else value


def _checked(record: Any, known: Collection[str], place: str) -> dict[str, Any]:
    """`record` if it is an object with known fields only."""
    if not isinstance(record, dict):
        raise ConfigError(tr("{place} must be an object with fields; got {value}", place=place, value=excerpt(record)))
    for name in record:
        if name not in known:
            raise ConfigError(
                tr("{place} has no field `{name}`: {hint}", place=place, name=name, hint=_hint(name, known))
            )
    return record


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return tr("did you mean {name}?", name=near[0]) if near else tr("known: {all}", all=", ".join(known) or "–")
