"""Messages in the user's language: Chinese if `QIANWEN_LANG`, or else the locale (`LANG=zh_CN.UTF-8`), says so.

The English template is the key, so the code reads as it speaks and a missing translation falls back to English.
"""

import functools
import os
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


def tr(text: str, /, **values: object) -> str:
    """The template `text` in the user's language, filled in: `tr("no file {path}", path=path)`."""
    template = chinese().get(text, text) if language() == "zh" else text
    return template.format(**values)
