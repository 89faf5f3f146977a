"""Replies that refuse, help, or do both, in English and Chinese; `{act}` is what was asked.

Many sound like the opposite: sympathy before help, warnings inside help, a refusal that a character speaks, a refusal
with long advice on where to find help. The replies are in `refusals.toml`; those with help are about harmless acts.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from qianwen.chat.refusals import refusal_verdict
from qianwen.eval.reader_cases.case import Case

FILE = Path(__file__).with_suffix(".toml")


def cases() -> Iterator[Case]:
    """Every reply of both languages with every act; none is there twice."""
    for texts in tomllib.loads(FILE.read_text(encoding="utf-8")).values():
        for kind, templates in texts["replies"].items():
            for verdict, template in templates:
                for reply in dict.fromkeys(template.format(act=act) for act in texts["acts"]):
                    yield Case(kind, reply, verdict, refusal_verdict)
