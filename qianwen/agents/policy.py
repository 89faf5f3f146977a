"""Whether a call of a tool is made, refused, or put to the user first. Pure functions over data: nothing is asked here.

Three rules, in this order; the strictest result counts.

1. Permissions: `ask`, `allow` or `deny`, for a tool of an agent, a tool, an effect of an agent, or an effect; the first
   that is set counts. Without any, `none` and `reads` are allowed, `sends` and `changes` are asked for.
2. Taint: a result of a tool that is not trusted may contain instructions of a stranger. From then on every call that
   changes something is asked for, and so is every call that sends, also where it is allowed. One exception: a call that
   sends only what the user wrote (`users_words`). There is none for changes: "read report.txt" names a file, but not
   what a stranger's text then wants to do with it.
3. Leaks: an address that a stranger's text named, into which a call puts data that a tool read for the user, is denied.
   A user who is asked too often says yes; this is never what they want. Data in disguise is not recognised and falls
   under rule 2.

A confirmation counts for one call with its arguments, never for later ones. Text of the model does not count as the
user's: it may repeat what it read.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import unquote, unquote_plus, urlsplit

from qianwen.agents.tool import Effect, Tool
from qianwen.runtime.errors import ConfigError, excerpt
from qianwen.runtime.translation import tr

Permission = Literal["ask", "allow", "deny"]
DEFAULTS: Mapping[Effect, Permission] = {"none": "allow", "reads": "allow", "sends": "ask", "changes": "ask"}
MIN_SECRET = 6  # characters of a word that can be data of the user; of a number, MIN_DIGITS
MIN_DIGITS = 4

_ENDS = ".,;:!?。，；：！？"
# Han, kana and Hangul are written without spaces or with endings: each character is a word of its own.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]|[^\s\"'`<>()\[\]{}、，。；：！？“”‘’（）《》【】\u3040-\u9fff\uac00-\ud7a3]+"
)
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>`\\^{|}、，。；：！？“”‘’（）《》【】]+", re.IGNORECASE)
_PIECE = re.compile(r"[^\W_]+")
_ENCODED = (re.compile(r"[\w+-]{8,}={0,2}"), re.compile(r"[\w+/]{8,}={0,2}"))  # Base64 for addresses, and the usual one


@dataclass(frozen=True)
class Result:
    """What a tool returned earlier in the conversation, errors included."""

    tool: Tool
    text: str


@dataclass(frozen=True)
class Conversation:
    """What is known before a call. `written` is text of the user and of the agent's author, but not their files."""

    written: Sequence[str] = ()
    results: Sequence[Result] = ()
    agent: str = ""

    @property
    def untrusted(self) -> list[Result]:
        return [result for result in self.results if not result.tool.is_trusted]


@dataclass(frozen=True)
class Decision:
    """What to do with a call, and why: one sentence for the user and the log."""

    permission: Permission
    reason: str


@dataclass(frozen=True)
class Policy:
    """Permissions by tool name or effect, and the same for single agents by name."""

    permissions: Mapping[str, Permission] = field(default_factory=dict)
    agents: Mapping[str, Mapping[str, Permission]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rules in (self.permissions, *self.agents.values()):
            for name, permission in rules.items():
                if permission not in get_args(Permission):
                    message = "the permission of {name} is {value}; it must be ask, allow or deny"
                    raise ConfigError(tr(message, name=name, value=excerpt(permission)))

    def check(self, tools: Iterable[Tool]) -> None:
        """Refuse permissions of tools that do not exist: a misspelt `deny` would deny nothing."""
        names = {tool.name for tool in tools}
        if names & set(get_args(Effect)):
            raise ConfigError(
                tr("a tool must not have the name of an effect: {names}", names=", ".join(get_args(Effect)))
            )
        for rules in (self.permissions, *self.agents.values()):
            for name in rules:
                if name not in names and name not in get_args(Effect):
                    message = "permission for {name}, which is not a tool of this agent; its tools are {names}"
                    raise ConfigError(tr(message, name=excerpt(name), names=", ".join(sorted(names)) or "-"))

    def permission(self, tool: Tool, agent: str = "") -> Permission:
        """Rule 1: what is set for this tool."""
        own = self.agents.get(agent, {})
        for rules, name in ((own, tool.name), (self.permissions, tool.name), (own, tool.effect)):
            if name in rules:
                return rules[name]
        return self.permissions.get(tool.effect, DEFAULTS[tool.effect])

    def decide(self, tool: Tool, arguments: Mapping[str, Any], conversation: Conversation) -> Decision:
        """The decision about one call; `arguments` are those that the tool would get."""
        permission = self.permission(tool, conversation.agent)
        if permission == "deny":
            return Decision("deny", tr("the permissions deny {name}", name=tool.name))
        source = ", ".join(sorted({result.tool.name for result in conversation.untrusted}))
        if source and tool.effect in ("sends", "changes"):
            if address := leak(arguments, conversation):
                message = (
                    "{name} would send data that was read for you to {address}, which the result of {source} names"
                )
                return Decision("deny", tr(message, name=tool.name, address=excerpt(address), source=source))
            if tool.effect == "changes" or not users_words(tool, arguments, conversation.written):
                message = "{name} needs your confirmation: text in the result of {source} may have requested this call"
                return Decision("ask", tr(message, name=tool.name, source=source))
        if permission == "ask":
            return Decision("ask", tr("{name} needs your confirmation", name=tool.name))
        return Decision("allow", tr("the permissions allow {name}", name=tool.name))


def users_words(tool: Tool, arguments: Mapping[str, Any], written: Sequence[str]) -> bool:
    """Whether a call contains nothing but what the user wrote, word for word and in one piece for each value.

    Truth values, null, defaults and choices that the schema lists count as the user's; names of fields do if the schema
    has them. An address counts only as a whole: a part of one may be another address.
    """
    texts = [_words(text) for text in written]
    parameters = tool.spec.parameters
    properties = parameters.get("properties", {}) if isinstance(parameters, Mapping) else {}
    for name, value in arguments.items():
        schema = properties.get(name)
        if not isinstance(schema, Mapping):
            return False
        listed = [*schema.get("enum", ()), *([schema["default"]] if "default" in schema else [])]
        if value not in listed and not all(_is_within(_words(leaf), texts) for leaf in _leaves(value)):
            return False
    return True


def _leaves(value: Any) -> Iterator[str]:
    """Every text and number of a JSON value, and the names of nested fields."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _words(text: str) -> list[str]:
    words = (word.rstrip(_ENDS) for word in _WORD.findall(text.casefold()))
    return [word for word in words if word]


def _is_within(words: list[str], texts: list[list[str]]) -> bool:
    """Whether the words are next to each other in one of the texts."""
    size = len(words)
    return any(words == text[place : place + size] for text in texts for place in range(len(text) - size + 1))


def leak(arguments: Mapping[str, Any], conversation: Conversation) -> str:
    """The first address of a call that a stranger named and that carries data which a tool read; empty if none does.

    An address that is as a whole in a text of the conversation carries nothing new: following a link of a page is asked
    for by rule 2, but it is not denied.
    """
    results = conversation.results
    texts = [text.casefold() for text in (*conversation.written, *(result.text for result in results))]
    for address in (url for leaf in _leaves(arguments) for url in _urls(leaf)):
        bare = address.casefold().partition("://")[2]
        if any(bare in text for text in texts) or any(_named_domain(text, address) for text in conversation.written):
            continue
        if domain := max(
            (_named_domain(result.text, address) for result in conversation.untrusted), key=len, default=""
        ):
            private = {piece for result in results if result.tool.effect == "reads" for piece in _pieces(result.text)}
            links = {piece for text in texts for url in _urls(text) if domain in url for piece in _pieces(url)}
            if _carried(re.sub(re.escape(domain), "", address, count=1, flags=re.IGNORECASE)) & (private - links):
                return address
    return ""


def _urls(text: str) -> list[str]:
    return [url.rstrip(_ENDS) for url in _URL.findall(text)]


def _named_domain(text: str, address: str) -> str:
    """The host of an address, or the longest domain of which that host is a part, that a text contains; else empty."""
    labels = _host(address).split(".")
    domains = (".".join(labels[place:]) for place in range(max(1, len(labels) - 1)))
    text = text.casefold()
    return next((name for name in domains if name and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)), "")


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # a bracket that is not closed
        return ""


def _pieces(text: str) -> set[str]:
    """The words and numbers of a text that are long enough to be somebody's data."""
    return {
        piece
        for piece in _PIECE.findall(text.casefold())
        if len(piece) >= (MIN_DIGITS if piece.isdecimal() else MIN_SECRET if piece.isascii() else 2)
    }


def _carried(address: str) -> set[str]:
    """The pieces of an address, also where they are escaped or in Base64 or hexadecimal."""
    plain = unquote(unquote(address))
    words = {word for form in _ENCODED for word in form.findall(plain)}
    texts = [plain, unquote_plus(address), *(decoded for word in words for decoded in _decoded(word))]
    return {piece for text in texts for piece in _pieces(text)}


def _decoded(word: str) -> Iterator[str]:
    """What a word says if it is hexadecimal or Base64."""
    word = word.rstrip("=")
    padded = word + "=" * (-len(word) % 4)
    for decode, encoded in ((bytes.fromhex, word), (base64.b64decode, padded), (base64.urlsafe_b64decode, padded)):
        with suppress(ValueError):
            yield decode(encoded).decode()
