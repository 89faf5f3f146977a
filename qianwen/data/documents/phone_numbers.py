"""Telephone numbers among other numbers: in the forms people write them, and by the words around them.

    +44 20 7946 0958      a country code (ITU E.164) and as many digits as that country's numbers have
    (415) 555-2671        the forms of North America, China, Japan, Korea, Britain, with their groups of digits
    电话13812345678       eleven digits that are a Chinese mobile number, in Chinese text
    Tél. : 01 42 34 56 78 any number of 7 to 15 digits right after a word for telephone

Mathematics and program text keep theirs: a number with one dot is a decimal (`+1.2345678`), a power of two is none, and
neither is eleven digits next to an operator or before a unit (`17179869184 bytes`).
"""

import re

CONTEXT = 48  # characters before a number that are looked at
LENGTHS_BY_CODE = """
    1:10-10 7:10-10 20:8-10 27:9-9 30:10-10 31:9-9 32:8-9 33:9-9 34:9-9 36:8-9 39:8-11 40:9-9 41:9-9 43:7-13 44:9-10
    45:8-8 46:7-10 47:8-8 48:9-9 49:7-11 51:8-9 52:10-10 53:8-8 54:10-11 55:10-11 56:9-9 57:8-10 58:10-10 60:8-10 61:9-9
    62:8-12 63:8-10 64:8-10 65:8-8 66:8-9 81:9-10 82:8-10 84:9-10 86:10-11 90:10-10 91:10-10 92:9-10 93:9-9 94:9-9
    95:7-10 98:10-10
"""
LENGTHS = {  # country code → the least and the most digits of a number after it
    code: tuple(map(int, digits.split("-")))
    for code, _, digits in (entry.partition(":") for entry in LENGTHS_BY_CODE.split())
}
THREE_DIGITS = re.compile(  # country codes, most of whose numbers have 7 to 10 digits
    r"21[12368]|2[2346]\d|25[0-8]|29[01789]|35\d|37\d|38[0-35-79]|42[013]|50\d|59\d|67[02-9]|68\d|69[0-2]|85[02356]|8[78]0"
    r"|886|96[0-8]|97[0-7]|99[2-68]"
)
GROUPS = re.compile(r"[ ().-]+")
NORTH_AMERICA = re.compile(r"(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4}")
CHINESE = re.compile(
    r"(?:\(?\+?86\)?[ -])?1[3-9]\d[ -]\d{4}[ -]\d{4}|(?:\(\+?86\)|\+?86[ -]) ?1[3-9]\d{9}"  # a mobile
    r"|0(?:10|2\d|[3-9]\d\d)[ -](?:\d{7,8}|\d{3,4}[ -]\d{4})|\(0(?:10|2\d|[3-9]\d\d)\)[ -]?\d{7,8}"  # a line
)
TRUNK = re.compile(
    r"0\d{1,4}-\d{1,4}-\d{4}|0\d{2,4} \d{3,4} ?\d{3,4}"
    r"|\(0\d{1,4}\) ?\d{3,5}[ -]?\d{3,4}|0[1-79](?:\.\d\d){4}"
)
MOBILE = re.compile(r"1[3-9]\d{9}")
DATE = re.compile(r"(?:19|20)\d\d[-. ](?:0[1-9]|1[0-2])[-. ](?:0[1-9]|[12]\d|3[01])(?!\d)")
IP_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
WORD = re.compile(
    r"(?:(?<![a-z])(?:tele)?(?:phone|fon)(?:s|o|number| number| no)?|(?<![a-z])(?:tel|tél|téléphone|teléfono|telefone"
    r"|mobile|mobil|móvil|celular|cellulare|cell|fax|handy|hotline|whatsapp|contact number|call(?: us| me)?|dial"
    r"|rufnummer|portable|тел|телефон|моб)|电话|電話|手机|手機|热线|熱線|传真|傳真|联系方式|聯絡|咨询|微信|携帯|전화|휴대폰|연락처|☎|📞"
    r"|टेलीफोन|फोन|โทร|هاتف|טלפון)[^\d\n]{0,12}$",
    re.I,
)
HAN = re.compile("[\u3400-\u9fff]")
OPERATOR_BEFORE = re.compile(r"[=<>*/^%&|~\[{]\s*$")
OPERATOR_AFTER = re.compile(r"\s*[=<>*/^%&|~\]}]")
UNIT = re.compile(
    r"\s*(?:bytes?|[kmgt]?i?b\b|bits?|元|块|美元|万|亿|个|位|字节|字|人|次|年|天|秒|米|公里|吨|名|条|篇|行|%|usd|eur|€|\$)",
    re.I,
)
ALONE = re.compile(r"[\s\d,;、，；/|()+-]|\[(?:EMAIL|PHONE|ID|CARD|IBAN)\]")


def is_phone(written: str, before: str, after: str) -> bool:
    """Whether digits with the characters people put between them are a telephone number.

    `before` is the text before it, at least as far as the line's beginning or CONTEXT characters, `after` what follows.
    """
    groups = [group for group in GROUPS.split(written.removeprefix("+").replace("(0)", " ")) if group]
    if (len(groups) == 2 and "." in written) or DATE.match(written.lstrip("(+")) or IP_ADDRESS.fullmatch(written):
        return False
    if written.lstrip("(").startswith("+"):
        return _is_international(groups) or CHINESE.fullmatch(written) is not None
    if any(pattern.fullmatch(written) for pattern in (NORTH_AMERICA, CHINESE)):
        return True
    digits = "".join(groups)
    if TRUNK.fullmatch(written) and 8 < len(digits) < 12:
        return True
    if 7 <= len(digits) <= 15 and WORD.search(before[-CONTEXT:]) and not UNIT.match(after):
        return True
    return MOBILE.fullmatch(written) is not None and _is_mobile(int(written), before, after)


def _is_international(groups: list[str]) -> bool:
    """Whether a country code and as many digits follow as there should be."""
    digits = "".join(groups)
    code = next((digits[:size] for size in (1, 2) if digits[:size] in LENGTHS), "")
    code = code or (digits[:3] if THREE_DIGITS.fullmatch(digits[:3]) else "")
    least, most = LENGTHS.get(code, (7, 10))
    number = digits[len(code) :]
    if not code or not least <= len(number) <= most or (number[0] == "0" and code != "39"):
        return False
    if code == "1" and not (number[0] in "23456789" and number[3] in "23456789"):
        return False
    return len(groups) == 1 or groups[0] == code or (len(groups[0]) > 3 and groups[0].startswith(code))


def _is_mobile(number: int, before: str, after: str) -> bool:
    """Whether eleven digits without any sign are a Chinese mobile number: there are as many other numbers."""
    if number & (number - 1) == 0 or number % 10_000 == 0:
        return False
    if UNIT.match(after) or OPERATOR_BEFORE.search(before) or OPERATOR_AFTER.match(after):
        return False
    line = before.rpartition("\n")[2] + after.partition("\n")[0]
    return HAN.search(before[-12:] + after[:6]) is not None or not ALONE.sub("", line)
