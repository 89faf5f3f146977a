"""The meter above the question: tokens of the context in use, and what extends the trained length."""

import html

from qianwen.runtime.translation import tr
from qianwen.serve.service import Served

WARN_AT = 0.8  # share of the context in use above which the meter warns


def meter(served: Served, used: int, speed: float = 0.0, ended: str = "") -> str:
    """HTML of the meter, with the speed of the last answer and why it ended early.

    A conversation beyond the trained length of the model has a second line: what extends it.
    """
    context = served.context
    state = "full" if used >= context else "high" if used >= WARN_AT * context else "low"
    text = tr("{used:,} of {context:,} tokens", used=used, context=context)
    if state == "full":
        text = tr("{text}: too long for this model. Shorten the question or start a new conversation", text=text)
    elif state == "high":
        text = tr("{text}: nearly full. Start a new conversation soon", text=text)
    if speed:
        text = tr("{text} · {speed:.1f} tokens per second", text=text, speed=speed)
    if ended:
        text = f"{text} · {ended}"
    bar = f'<meter class="{state}" min="0" max="{context}" value="{min(used, context)}"></meter>'
    note = "" if state == "full" else html.escape(served.limits.note(used))
    beyond = f'<span class="beyond">{note}</span>' if note else ""
    return f'<label class="{state}">{bar} <span>{html.escape(text)}</span>{beyond}</label>'
