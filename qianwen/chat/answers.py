r"""The answer in a reply, and whether it is right: one reader for rejection sampling, rewards and evaluation.

    last_number   the number a reply ends in, "1,234.50" as 1234.50             GSM8K, chat and base
    boxed         what stands in the last \boxed{…}                             mathematics in LaTeX
    choice        the letter a reply chooses, by letter or by an option's text  MMLU, C-Eval
    code_block    the program in a reply                                        HumanEval

The protocols are those of Qwen's released evaluation scripts: numbers are equal within 10⁻⁴; a choice is looked for in
four tiers, from "the answer is B" to the first letter that stands alone, and at last by the option most like the
reply. A reply without an answer is wrong, never an error.
Not here: running programs, and symbolic equality of formulas.
"""

import difflib
import math
import re
from collections.abc import Mapping

NUMBER = re.compile(r"(?<![\d.])[-−]?\d+(?:,\d{3})*(?:\.\d+)?")
TOLERANCE = 1e-4  # of numbers, absolute
FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.S | re.M)


# ---- numbers -----------------------------------------------------------------------------------------------------


def last_number(text: str) -> str:
    """The number `text` ends in, without thousands separators; empty if there is none."""
    found = NUMBER.findall(text)
    return found[-1].replace(",", "").replace("−", "-") if found else ""


def boxed(text: str) -> str:
    r"""What the last \boxed{…} holds, braces inside it included; empty if there is none.

    >>> boxed(r"so \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    begin = text.rfind(r"\boxed{")
    depth = 0
    for place in range(begin + len(r"\boxed"), len(text) if begin >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[begin + len(r"\boxed{") : place].strip()
    return ""


def final_number(reply: str) -> str:
    """The number a reply gives as its answer: the boxed one where there is a box, else its last."""
    return last_number(boxed(reply)) or last_number(reply)


def reference_number(solution: str) -> str:
    """The number of a worked solution: after `####` in GSM8K's form, else as `final_number` reads it."""
    return last_number(solution.rpartition("####")[2]) if "####" in solution else final_number(solution)


def is_same_number(one: str, other: str) -> bool:
    """Whether both are numbers, and equal within TOLERANCE."""
    try:
        return math.isclose(float(one), float(other), rel_tol=0.0, abs_tol=TOLERANCE)
    except ValueError:
        return False


def is_right_number(reply: str, reference: str) -> bool:
    """Whether the number `reply` gives is that of the worked solution or number `reference`."""
    return is_same_number(final_number(reply), reference_number(reference))


# ---- choices -----------------------------------------------------------------------------------------------------


def choice(reply: str, options: Mapping[str, str], question: str = "") -> str:
    """The letter of `options` (letter → text) that a reply chooses, in English or Chinese; never empty.

    The question's text counts as "the answer is", an option's text as its letter: a reply may speak in words.
    """
    letters = "".join(options)
    text = reply.replace(question, "答案是") if question else reply
    for letter, option in sorted(options.items(), key=lambda item: -len(item[1])):
        if len(option) > 1 and option.lower() in text.lower():
            text = re.sub(re.escape(option), f" {letter} ", text, flags=re.I)
    for tier in _tiers(letters):
        if found := tier.search(text):
            return next(group for group in found.groups() if group).upper()
    return max(options, key=lambda letter: _likeness(reply, options[letter]))


def _tiers(letters: str) -> list[re.Pattern[str]]:
    one = rf"(?<![A-Za-z])([{letters}])(?![A-Za-z])"
    joins = r"应该|应当|should be|is|are|为|是|选|:|：|,|，|\("
    lead = rf"(?:正确的?)?(?:答案|选项|选择|回答|answer|option|choice)(?:\s*(?:{joins}))*"
    return [
        re.compile(rf"{lead}[\s*（(\[\"'“]*{one}", re.I),
        re.compile(rf"{one}[\s).）】*:：]*(?:选项|项)?(?:是|为|is)?(?:the\s+)?(?:正确|符合|对的|correct|right)", re.I),
        re.compile(rf"^[\s*（(\[\"'“]*{one}"),
        re.compile(one),
    ]


def _likeness(reply: str, option: str) -> float:
    return difflib.SequenceMatcher(None, reply.lower()[:2000], option.lower()[:2000], autojunk=False).ratio()


# ---- programs ----------------------------------------------------------------------------------------------------


def code_block(reply: str, entry_point: str = "") -> str:
    """The program in a reply: the first fenced block that defines `entry_point`, else the first one that defines or
    holds anything, else, without a fence, the reply itself. A fence that never closes ends with the reply.
    """
    blocks = [body for _, body in FENCE.findall(reply)]
    definition = re.compile(rf"^\s*(?:async\s+)?(?:def|class)\s+{re.escape(entry_point) or r'[A-Za-z_]'}", re.M)
    for block in blocks:
        if definition.search(block):
            return block
    return next((block for block in blocks if block.strip()), "" if blocks else reply)
