"""Messages in the user's language: Chinese if `QIANWEN_LANG`, or else the locale (`LANG=zh_CN.UTF-8`), says so.

The English template is the key, so the code reads as it speaks and a missing translation falls back to English.
"""

import functools
import os
import string
import tomllib
from importlib import resources

VARIABLES = ("QIANWEN_LANG", "LC_ALL", "LC_MESSAGES", "LANG")  # ours, then the order of POSIX; the first set one counts


def language() -> str:
    """`zh` or `en`; regional forms such as `zh_CN.UTF-8` count as their language."""
    chosen = next((value for name in VARIABLES if (value := os.environ.get(name))), "en")
    return "zh" if chosen.lower().startswith("zh") else "en"


@functools.cache
def chinese() -> dict[str, str]:
    """English template → Chinese template."""
    return tomllib.loads(resources.files("qianwen.runtime").joinpath("zh.toml").read_text(encoding="utf-8"))


class _Formatter(string.Formatter):
    """As `str.format`, with the format `plural`: `{count} row{count:plural}` becomes "1 row" and "2 rows"."""

    def format_field(self, value: object, format_spec: str) -> str:
        if format_spec == "plural":
            return "" if value == 1 else "s"
        return super().format_field(value, format_spec)


def tr(text: str, /, **values: object) -> str:
    """The template `text` in the user's language, filled in: `tr("no file {path}", path=path)`."""
    template = chinese().get(text, text) if language() == "zh" else text
    return _Formatter().vformat(template, (), values)
