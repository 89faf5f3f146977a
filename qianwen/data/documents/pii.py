"""What identifies a person, taken out of a text: e-mail, phone, Chinese id, bank card, IBAN.

Numbers with a checksum are taken only when it holds (ISO 7064 for the id, Luhn for cards, ISO 13616 for IBAN), phones
only in the forms people write them (`phone_numbers.py`), addresses only under a domain (`email_addresses.py`), so that
mathematics and code keep theirs. Not here: names, postal addresses, IP addresses, identity numbers of other countries.
"""

import datetime
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from qianwen.data.documents.email_addresses import ADDRESS, is_address
from qianwen.data.documents.phone_numbers import CONTEXT, OPERATOR_AFTER, OPERATOR_BEFORE, UNIT, WORD, is_phone

# These begin with a class of characters, which is what the matcher searches for fast; what precedes is looked at after.
NUMBER = re.compile(r"\d(?:[ ().-]{0,2}\d){6,22}[Xx]?(?![\w/=%*^])(?!\.\d)", re.A)
IBAN = re.compile(r"\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.A)
COUNTRY = re.compile(r"(?:^|[^\w])?[A-Z]{2}")
OPENING = re.compile(r"(?:\+|\(\+?)?$")
GLUED = re.compile(r"[\w.,/=#%&*^+-]$", re.A)  # before a number that is part of something longer
ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CARD = re.compile(r"\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -]?)\d{6}\2\d{5}")
CARD_STARTS = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6(?:011|2|4[4-9]|5)|35")


class Scrubbed(NamedTuple):
    """A text without personal data, and how many of each kind it held."""

    text: str
    counts: Counter[str]


def scrub(text: str) -> Scrubbed:
    """Put `[EMAIL]`, `[PHONE]`, `[ID]`, `[CARD]` or `[IBAN]` in the place of each."""
    counts: Counter[str] = Counter()

    def put(kind: str) -> str:
        counts[kind] += 1
        return f"[{kind}]"

    if "@" in text:
        text = ADDRESS.sub(lambda match: put("EMAIL") if is_address(match) else match[0], text)
    return Scrubbed(_without_numbers(_without_ibans(text, put), put), counts)


def _without_ibans(text: str, put: Callable[[str], str]) -> str:
    pieces, end = [], 0
    for match in IBAN.finditer(text):
        country = text[max(match.start() - 3, end) : match.start()]
        if COUNTRY.fullmatch(country) and is_iban(country[-2:] + match[0]):
            pieces += text[end : match.start() - 2], put("IBAN")
            end = match.end()
    return "".join([*pieces, text[end:]])


def _without_numbers(text: str, put: Callable[[str], str]) -> str:
    pieces, end = [], 0
    for match in NUMBER.finditer(text):
        before = text[max(match.start() - 3, end) : match.start()]
        opening = OPENING.search(before)[0]  # pyrefly: ignore  it matches the empty string
        if ")" not in match[0]:
            opening = opening.replace("(", "")  # it is around the number, not in it
        start = match.start() - len(opening)
        line = text[max(start - CONTEXT, 0) : start]
        if GLUED.search(before.removesuffix(opening)) and not (before.endswith("=") and WORD.search(line)):
            continue
        written = text[start : match.end()]
        scrubbed = _number(written, line, text[match.end() : match.end() + CONTEXT], put)
        if scrubbed != written:
            pieces += text[end:start], scrubbed
            end = match.end()
    return "".join([*pieces, text[end:]])


def _number(written: str, before: str, after: str, put: Callable[[str], str]) -> str:
    if kind := kind_of_number(written, before, after):
        return put(kind)
    pieces = re.split(r"( +)", written)  # two numbers side by side look like one
    if len(pieces) == 1:
        return written
    scrubbed = ""
    for number, piece in enumerate(pieces):
        kind = kind_of_number(piece, before + scrubbed, "".join(pieces[number + 1 :]) + after) if piece.strip() else ""
        scrubbed += put(kind) if kind else piece
    return scrubbed


def kind_of_number(written: str, before: str = "", after: str = "") -> str:
    """ID, CARD or PHONE, or nothing; `before` and `after` are the text around it."""
    digits = re.sub(r"[ ().+-]", "", written).upper()
    if is_chinese_id(digits):
        return "ID"
    if CARD.fullmatch(written) and is_card(digits):
        is_count = OPERATOR_BEFORE.search(before) or OPERATOR_AFTER.match(after) or UNIT.match(after)
        return "" if written == digits and is_count else "CARD"
    return "PHONE" if is_phone(written, before, after) else ""


def is_chinese_id(digits: str) -> bool:
    """18 characters: region, a date of birth that was, a serial number, and the check of GB 11643 (MOD 11-2)."""
    if not re.fullmatch(r"[1-9]\d{16}[\dX]", digits):
        return False
    try:
        born = datetime.date(int(digits[6:10]), int(digits[10:12]), int(digits[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(ID_WEIGHTS, digits, strict=False))
    return born.year >= 1900 and "10X98765432"[total % 11] == digits[17]


def is_card(digits: str) -> bool:
    """13 to 19 digits that begin like a card's and satisfy Luhn (ISO/IEC 7812-1)."""
    if not (13 <= len(digits) <= 19 and digits.isdigit() and CARD_STARTS.match(digits)) or len(set(digits)) < 2:
        return False
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


def is_iban(written: str) -> bool:
    """15 to 34 characters whose number modulo 97 is 1 (ISO 13616)."""
    plain = written.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1
