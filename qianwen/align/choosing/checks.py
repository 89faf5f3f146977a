"""Automatic checks of an answer, for a person who reads it: hints, not verdicts.

empty        an answer without text and without a call
refusal      an answer that refuses (`chat/refusals.py`)
long         an answer of more than `MAX_ANSWER` characters
repeated     the same eight words come again and again
arguments    a call of an unknown function, or arguments that break its schema
language     a Chinese question with an answer that is not, or the other way round
"""

import json
import re
from collections import Counter
from collections.abc import Sequence

from qianwen.align.languages import HAN, is_in_language
from qianwen.chat.json_schema import satisfies
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.chat.refusals import refusal_verdict

CHECKS = ("empty", "refusal", "long", "repeated", "arguments", "language")
MAX_ANSWER = 8000  # characters
REACT_CALL = re.compile(
    r"^Action[:：] ?(.*)\nAction Input[:：] ?([\s\S]*?)(?=\n(?:Observation|Thought|Final Answer)[:：]|\Z)", re.M
)
RUN, MAX_RUNS = 8, 3  # words of a run, and how often it may come


def findings(messages: Sequence[Message], functions: Sequence[FunctionSpec]) -> list[str]:
    """The names of the checks that apply to at least one answer."""
    found, question = set(), ""
    for message in messages:
        if message.role == "user":
            question = message.text
        if message.role != "assistant":
            continue
        text = message.text.strip()
        calls = [(call.name, call.arguments) for call in message.tool_calls]
        calls += REACT_CALL.findall(text) if functions else []
        found |= {"arguments" for name, arguments in calls if not is_valid_call(name, arguments, functions)}
        if text:
            found |= _of_text(text, question)
        elif not message.tool_calls:
            found.add("empty")
    return [name for name in CHECKS if name in found]


def _of_text(text: str, question: str) -> set[str]:
    refuses = len(text) <= MAX_ANSWER and refusal_verdict(text) == "refusal"
    language = "zh" if HAN.search(question) else "en"
    is_other = is_in_language(question, language) and not is_in_language(text, language)
    facts = {"refusal": refuses, "long": len(text) > MAX_ANSWER, "repeated": is_repeated(text), "language": is_other}
    return {name for name, is_so in facts.items() if is_so}


def is_repeated(text: str) -> bool:
    """Whether the same run of words comes more often than `MAX_RUNS` times."""
    words = re.findall(r"[\u3400-\u9fff]|[^\W_]+", text.lower())
    runs = Counter(zip(*(words[start:] for start in range(RUN)), strict=False))
    return max(runs.values(), default=0) > MAX_RUNS


def is_valid_call(name: str, arguments: str, functions: Sequence[FunctionSpec]) -> bool:
    """Whether the function is known and the arguments are JSON that satisfies its schema. Code needs no schema."""
    function = next((each for each in functions if each.name == name), None)
    if function is None or function.args_format == "code":
        return function is not None
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and (
        not isinstance(function.parameters, dict) or satisfies(value, function.parameters)
    )
