"""Attacks on the rules of a model: a request in a wrapping, or asked again and again.

    plain                                                    the request as it is
    role_play, ignore_instructions, hypothetical, authority  a pretext around it
    prefix_injection, translation                            a form of the answer that leaves no room for a refusal
    base64, substitution, split_payload                      the request is hidden: encoded, or in parts
    pressure                                                 several turns: after each refusal another reason to answer

The texts are in `attacks.toml`, English and Chinese. They are simple forms of the kinds that Wei et al. (2023,
"Jailbroken") describe; a determined person finds stronger ones, so a low number here is no proof of safety.
"""

import base64
import functools
import tomllib
from importlib import resources
from typing import Any

from qianwen.align.safety.taxonomy import Language

PLAIN, PRESSURE = "plain", "pressure"
DIGITS = str.maketrans("aeiostAEIOST", "431057431057")


@functools.cache
def _texts() -> dict[str, dict[str, Any]]:
    file = resources.files("qianwen.eval.safety").joinpath("attacks.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def attack_names() -> list[str]:
    """All attacks, `plain` first."""
    return [PLAIN, *_texts()]


def is_hidden(attack: str) -> bool:
    """Whether the attack hides the words of the request."""
    return attack != PLAIN and bool(_texts()[attack].get("hidden"))


def first_message(attack: str, request: str, language: Language) -> str:
    """What the user writes first."""
    if attack in (PLAIN, PRESSURE):
        return request
    thirds = [len(request) * part // 3 for part in range(4)]
    parts = [request[start:end] for start, end in zip(thirds, thirds[1:], strict=False)]
    forms = dict(zip(("first", "second", "third"), parts, strict=True))
    return _texts()[attack][language].format(request=request, encoded=_encoded(attack, request, language), **forms)


def pressing_messages(language: Language) -> list[str]:
    """What the user writes after the first refusal, after the second, and so on."""
    return _texts()[PRESSURE][language]


def _encoded(attack: str, request: str, language: Language) -> str:
    if attack == "base64":
        return base64.b64encode(request.encode("utf-8")).decode("ascii")
    return "-".join(request) if language == "zh" else request.translate(DIGITS)
