"""The rules for generated questions and dialogues. Each returns the reason of the first fault, or None.

Questions are rejected if they are in the wrong language, too short or long, have placeholders, or talk about the tool.
Dialogues are rejected if the call does not fit (no tool, another tool, arguments that break the schema or that the user
never gave), if the answer leaves out a result or states a number that nobody gave it, if a text loops, is cut short or
in the wrong language, or repeats the prompt.
"""

import re
from collections.abc import Mapping
from typing import Any

from qianwen.align.languages import is_in_language
from qianwen.align.near_duplicates import words_of
from qianwen.align.sentences import sentences
from qianwen.chat.chinese_numerals import NUMERAL, numeral_value
from qianwen.chat.json_schema import satisfies
from qianwen.chat.messages import FunctionSpec

LENGTHS = {"en": (12, 200), "zh": (5, 90)}  # characters of a question
MAX_ANSWER = {"en": 420, "zh": 200}
MAX_THOUGHT = {"en": 220, "zh": 120}
GROUNDED = 0.6  # minimum share of the words of an argument that are in the question
STEM = 5  # letters of a word that must agree: "inspecting" states "inspect"
LEAK = re.compile(
    r"\b(?:this|the|your|another|a) (?:tool|function|api)\b|\bparameters?\b|\bjson\b|\barguments?\b|\bassistant\b"
    r"|\bresult field|\bas (?:stated|mentioned) (?:here|above)|\bthe user(?:'s)? (?:wrote|message)\b"
    r"|\blooked it up\b|\blook(?:ed)? up and know\b"
    r"|这个工具|该工具|工具返回|调用工具|参数|函数|接口|助手|结果字段|用户说|你查到",
    re.IGNORECASE,
)
PLACEHOLDER = re.compile(
    r"[\[<{][^\]>}]{1,40}[\]>}]|\bxx+\b|\.\.\.$|…$|_{2,}|\b(?:your|specific) (?:name|city|date)\b"
    r"|某某|××|具体(?:名称|日期)",
    re.IGNORECASE,
)
LABEL = re.compile(
    r"^\W*[\w ]{1,16}[:：]|[/?&]\w+=|\w_\w|\basked?[,:] ['\"]|^/"
    r"|^(?:sure|certainly|of course|hello|hi|hey|dear)\b|^(?:您好|你好|好的|当然|明白)",
    re.IGNORECASE,
)
NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
NUMBER_WORDS = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
        ]
    )
}


def question_fault(
    text: str, language: str, tool: FunctionSpec | None = None, arguments: Mapping[str, Any] | None = None
) -> str | None:
    """Why a question is rejected; `tool` is the one that answers it, `arguments` is what it should state."""
    low, high = LENGTHS[language]
    if not low <= len(text.strip()) <= high:
        return "question too short or long"
    if not is_in_language(text, language):
        return "question in the wrong language"
    if PLACEHOLDER.search(text):
        return "question with a placeholder"
    if LEAK.search(text) or (tool is not None and tool.name in text):
        return "question about the tool"
    if LABEL.search(text):
        return "question with a label or an address"
    if not all(is_grounded(value, text) for value in (arguments or {}).values()):
        return "question without its arguments"
    return "loops" if loops(text) else None


def call_fault(call: Mapping[str, Any], question: str, tool: FunctionSpec, language: str) -> str | None:
    """Why a call (`thought`, `name`, `arguments`) is rejected; `tool` is the one that it must call."""
    if call["name"] != tool.name:
        return "no tool called" if call["name"] == "none" else "another tool called"
    if not satisfies(call["arguments"], tool.parameters):
        return "arguments break the schema"
    if not all(is_grounded(value, question) for value in call["arguments"].values()):
        return "arguments that the question does not give"
    return text_fault(call["thought"], language, MAX_THOUGHT[language])


def answer_fault(
    answer: str, question: str, arguments: Mapping[str, Any], result: Mapping[str, Any], language: str
) -> str | None:
    """Why the answer to a question is rejected, given the result of the call."""
    if fault := text_fault(answer, language, MAX_ANSWER[language]):
        return fault
    values = [value for name, value in result.items() if value != arguments.get(name)]
    if not all(is_stated(value, answer) for value in values):
        return "answer leaves out a result"
    given = " ".join([question, *(str(value) for value in (*arguments.values(), *result.values()))])
    if any(not _is_given(number, given) for number in NUMBER.findall(answer)):
        return "answer invents a number"
    return None


def text_fault(text: str, language: str, longest: int) -> str | None:
    """Why a thought or an answer is rejected, whatever it is about."""
    if not sentences(text) or len(text) >= longest:
        return "text too short or long"
    if not is_in_language(text, language):
        return "text in the wrong language"
    if LEAK.search(text) or PLACEHOLDER.search(text):
        return "leaked prompt"
    return "loops" if loops(text) else None


def loops(text: str) -> bool:
    """Whether the same words come again and again: one sequence of four of them at least three times."""
    words = re.findall(r"[\u3400-\u9fff]|[^\W_]+", text.lower())
    runs = [tuple(words[place : place + 4]) for place in range(len(words) - 3)]
    return any(runs.count(run) >= 3 for run in set(runs))


def is_grounded(value: Any, question: str) -> bool:
    """Whether the question gives this argument: its number, or most of its words. True and false are not checked."""
    if isinstance(value, bool):
        return True
    if isinstance(value, (int, float)):
        return _is_given(str(value), question) or value in _spelled(question)
    words = words_of(str(value))
    return bool(words) and len(words & words_of(question)) >= GROUNDED * len(words)


def is_stated(value: Any, text: str) -> bool:
    """Whether a text states a value of a result."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _is_given(str(value), text) or value in _spelled(text)
    if any(character.isdigit() for character in str(value)):
        return all(_is_given(number, text) for number in NUMBER.findall(str(value)))
    stems, known = ({word[:STEM] for word in words_of(each)} for each in (str(value), text))
    return bool(stems) and len(stems & known) >= GROUNDED * len(stems)


def _is_given(number: str, text: str) -> bool:
    """Whether a number is in a text in any spelling: 1,200 is 1200.0, and 14 is in 2025-06-14."""
    value = float(number.replace(",", ""))
    pieces = [*NUMBER.findall(text), *re.findall(r"\d+", text)]
    return any(float(piece.replace(",", "")) == value for piece in pieces)


def _spelled(text: str) -> set[float]:
    """The small numbers that a text writes as words or Chinese numerals."""
    words = {float(NUMBER_WORDS[word]) for word in re.findall(r"[a-z]+", text.lower()) if word in NUMBER_WORDS}
    return words | {float(numeral_value(numeral)) for numeral in NUMERAL.findall(text)}
