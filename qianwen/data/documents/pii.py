"""What identifies a person, taken out of a text: e-mail, phone, Chinese id, bank card, IBAN.

Numbers with a checksum are taken only when it holds (ISO 7064 for the id, Luhn for cards, ISO 13616 for IBAN), phones
only in the forms people write them, so that mathematics and code keep their numbers. Not here: names and addresses.
"""

import datetime
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b", re.A
)
# These begin with a class of characters, which is what the matcher searches for fast; what precedes is looked at after.
NUMBER = re.compile(r"\d(?:[ ().-]{0,2}\d){6,22}[Xx]?(?![\w/=%*^])(?!\.\d)", re.A)
IBAN = re.compile(r"\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.A)
COUNTRY = re.compile(r"(?:^|[^\w])?[A-Z]{2}")
OPENING = re.compile(r"(?:\+|\(\+?)?$")
GLUED = re.compile(r"[\w.,/=#%&*^+-]$", re.A)  # before a number that is part of something longer
EXAMPLES = re.compile(r"(?:^|[@.])(?:example\.(?:com|org|net)|localhost|test|invalid)$", re.I)
PHONE = re.compile(
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,4}"  # +44 20 7946 0958
    r"|(?:\(?\+?86\)?[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}"  # a Chinese mobile
    r"|\(?0\d{2,3}\)?[ -]\d{7,8}"  # a Chinese line
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}"  # North America
)
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
        text = EMAIL.sub(lambda m: m[0] if EXAMPLES.search(m[0]) else put("EMAIL"), text)
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
        if GLUED.search(before.removesuffix(opening)):
            continue
        start = match.start() - len(opening)
        pieces += text[end:start], _number(text[start : match.end()], put)
        end = match.end()
    return "".join([*pieces, text[end:]])


def _number(written: str, put: Callable[[str], str]) -> str:
    if kind := kind_of_number(written):
        return put(kind)
    pieces = re.split(r"( +)", written)  # two numbers side by side look like one
    return "".join(put(kind) if (kind := kind_of_number(piece)) else piece for piece in pieces)


def kind_of_number(written: str) -> str:
    """ID, CARD or PHONE, or nothing."""
    digits = re.sub(r"[ ().+-]", "", written).upper()
    if is_chinese_id(digits):
        return "ID"
    if CARD.fullmatch(written) and is_card(digits):
        return "CARD"
    return "PHONE" if PHONE.fullmatch(written) else ""


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
