r"""Extract the answer from a reply and check whether it is correct. Used by rejection sampling and evaluation.

    last_number   the last number of a reply, "1,234.50" as 1234.50             GSM8K, chat and base models
    boxed         the content of the last \boxed{…}                             mathematics in LaTeX
    choice        the letter that a reply chooses, or names by an option's text MMLU, C-Eval
    code_block    the program in a reply                                        HumanEval

The rules are those of Qwen's released evaluation scripts. Numbers are equal within 10⁻⁴. A choice is searched with four
patterns, from "the answer is B" down to the first single letter; if none matches, the option that the reply almost
writes out is taken (`nearest_option.py`). A reply without an answer is wrong; it never raises an error.
Not here: running programs, and symbolic equality of formulas.
"""

import math
import re
from collections.abc import Mapping

from qianwen.chat.nearest_option import nearest_option

NUMBER = re.compile(r"(?<![\d.])[-−]?\d+(?:,\d{3})*(?:\.\d+)?")
TOLERANCE = 1e-4  # absolute difference below which two numbers are equal
FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.S | re.M)


# ---- numbers -----------------------------------------------------------------------------------------------------


def last_number(text: str) -> str:
    """The last number in `text`, without thousands separators; empty if there is none."""
    numbers = NUMBER.findall(text)
    return numbers[-1].replace(",", "").replace("−", "-") if numbers else ""


def boxed(text: str) -> str:
    r"""The content of the last \boxed{…}, with the braces inside it; empty if there is none.

    >>> boxed(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    begin = text.rfind(r"\boxed{")
    depth = 0
    for index in range(begin + len(r"\boxed"), len(text) if begin >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return text[begin + len(r"\boxed{") : index].strip()
    return ""


def final_number(reply: str) -> str:
    """The number that a reply gives as its answer: the number in the last box, else the last number."""
    return last_number(boxed(reply)) or last_number(reply)


def reference_number(solution: str) -> str:
    """The answer of a worked solution: the number after `####` in GSM8K's format, else `final_number`."""
    return last_number(solution.rpartition("####")[2]) if "####" in solution else final_number(solution)


def is_same_number(left: str, right: str) -> bool:
    """Whether both are numbers, and equal within TOLERANCE."""
    try:
        return math.isclose(float(left), float(right), rel_tol=0.0, abs_tol=TOLERANCE)
    except ValueError:
        return False


def is_right_number(reply: str, reference: str) -> bool:
    """Whether `reply` gives the same number as `reference`, which is a worked solution or a number."""
    return is_same_number(final_number(reply), reference_number(reference))


# ---- choices -----------------------------------------------------------------------------------------------------


def choice(reply: str, options: Mapping[str, str], question: str = "") -> str:
    """The letter of `options` (letter → text) that a reply chooses, in English or Chinese; empty if it chooses none.

    A reply may repeat the question or an option's text instead of a letter, so the question's text is read as "the
    answer is" and an option's text as its letter.
    """
    letters = "".join(options)
    text = reply.replace(question, "答案是") if question else reply
    # longest text first, because a short option may be part of a longer one
    for letter, option in sorted(options.items(), key=lambda item: -len(item[1])):
        if len(option) > 1 and option.lower() in text.lower():
            text = re.sub(re.escape(option), f" {letter} ", text, flags=re.I)
    for pattern in _choice_patterns(letters):
        if match := pattern.search(text):
            return next(group for group in match.groups() if group).upper()
    return nearest_option(reply, options)


def _choice_patterns(letters: str) -> list[re.Pattern[str]]:
    """From the clearest statement of a choice to the least clear; the first pattern that matches decides."""
    letter = rf"(?<![A-Za-z])([{letters}])(?![A-Za-z])"
    verbs = r"应该|应当|should be|is|are|为|是|选|:|：|,|，|\("
    lead = rf"(?:正确的?)?(?:答案|选项|选择|回答|answer|option|choice)(?:\s*(?:{verbs}))*"
    return [
        re.compile(rf"{lead}[\s*（(\[\"'“]*{letter}", re.I),
        re.compile(
            rf"{letter}[\s).）】*:：]*(?:选项|项)?(?:是|为|is)?(?:the\s+)?(?:正确|符合|对的|correct|right)", re.I
        ),
        re.compile(rf"^[\s*（(\[\"'“]*{letter}"),
        re.compile(letter),
    ]


# ---- programs ----------------------------------------------------------------------------------------------------


def code_block(reply: str, entry_point: str = "") -> str:
    """The program in a reply: the first fenced block that defines `entry_point` (any function or class if it is empty),
    else the first block that is not blank, else, without a fence, the reply itself. An open fence ends with the reply.
    """
    blocks = [body for _, body in FENCE.findall(reply)]
    definition = re.compile(rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(entry_point) or r'[A-Za-z_]'}", re.M)
    for block in blocks:
        if definition.search(block):
            return block
    return next((block for block in blocks if block.strip()), "" if blocks else reply)
