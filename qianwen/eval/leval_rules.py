"""How L-Eval's published script reads and scores answers (`Evaluation/auto_eval.py`, `em.py`).

    letter, letters    the first capital A–D; of questions with several right options all that are named
    number             the digits after "The answer is", else of the last word with a digit in the first paragraph
    judgement          "true" or "false", whichever word has one of them first
    code               the output of a program, without spaces, commas and quotes

The rules are simple, so that "Answer: C" is read as A; how often they misread is in `reader_cases/`. An answer without
any letter counts as "A", as published. One thing differs: an empty answer is wrong, where the script gives it 0.25.
"""

import re

LETTERS = "ABCD"
GUESS = "A"
PARTLY_RIGHT = 0.25  # some of the right options, and no wrong one
IN_CODE_ANSWERS = ("will be", "of the code", "is", "would be", "the value of", "the result of", "printed")


def letter(reply: str) -> str:
    """The first of the letters A to D; empty if there is none."""
    return next((char for char in reply if char in LETTERS), "")


def letters(reply: str) -> str:
    """All letters that are named, in alphabetical order; empty if there is none."""
    start = re.match(rf"[{LETTERS}]*", reply)
    leading = start[0] if start else ""
    rest = [] if len(leading) > 1 else re.findall(r"[A-Z](?=[\s.)])", reply[len(leading) :].split("Question")[0])
    return "".join(sorted({*leading, *rest} & set(LETTERS)))


def reference_letters(output: str) -> str:
    """The letters of a published answer, such as "BD" or "(B) They …"."""
    return "".join(char for char in output.split()[0] if char in LETTERS)


def letters_credit(read: str, reference: str) -> float:
    """1, a part of it, or 0."""
    if read == reference:
        return 1.0
    return PARTLY_RIGHT if read and set(read) < set(reference) else 0.0


def number(reply: str) -> str:
    """The digits before the decimal point; empty if there is no number."""
    stated = re.search(r"The answer is (\S+)", reply)
    words = [stated[1]] if stated else reversed(reply.split("\n\n")[0].split(" "))
    word = next((word for word in words if any(char.isdigit() for char in word)), "")
    return re.sub(r"\D", "", word.partition(".")[0])


def judgement(reply: str) -> str:
    """`true`, `false`, or empty."""
    for word in reply.lower().split():
        for value in ("true", "false"):
            if value in word:
                return value
    return ""


def code(output: str) -> str:
    """The output of a program in one form."""
    text = re.sub(r"\s+", " ", output)
    for old, new in ((",", ""), ("'", ""), ("\\", ""), (".0", ""), ("] [", "]["), ("[ [", "[["), ("] ]", "]]")):
        text = text.replace(old, new)
    return text


def code_answer(reply: str, reference: str) -> str:
    """The part of a reply where the output is: after "the final output", else at the end."""
    text = code(reply)
    for phrase in IN_CODE_ANSWERS:
        text = text.replace(phrase, "")
    count = len(reference.split()) + 3
    before, phrase, after = text.rpartition("the final output")
    return " ".join(after.split()[:count] if phrase else text.split()[-count:])


def code_credit(read: str, reference: str) -> float:
    """1 if the output is in what was read."""
    return float(_squeezed(reference) in _squeezed(read))


def _squeezed(text: str) -> str:
    return text.lower().replace(" ", "")
