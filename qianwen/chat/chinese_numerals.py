"""Numbers in Chinese characters: 一千二百三十四, 三万五, 二〇二四, 十八点五, 1.5亿.

digits    零 一 二 两 … 九, and the capital forms of banks (壹 贰 …)
units     十 百 千 within four digits; 万 and 亿 multiply everything before them
"""

import re

DIGITS = {
    c: i
    for i, group in enumerate(("零〇", "一壹", "二两贰", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖"))
    for c in group
}
UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
LARGE = {"万": 10**4, "亿": 10**8}
NUMERAL = re.compile(
    rf"[{''.join(DIGITS)}{''.join(UNITS)}][{''.join([*DIGITS, *UNITS, *LARGE])}]*(?:点[{''.join(DIGITS)}]+)?"
)


def last_numeral(text: str) -> str:
    """The last number in Chinese characters in `text`, in digits; empty if there is none.

    >>> last_numeral("一共有一千零二十个，即三万五千")
    '35000'
    """
    numerals = NUMERAL.findall(text)
    return numeral_value(numerals[-1]) if numerals else ""


def numeral_value(numeral: str) -> str:
    """The value of one numeral, in digits."""
    whole, _, fraction = numeral.partition("点")
    decimals = "." + "".join(str(DIGITS[c]) for c in fraction) if fraction else ""
    if not set(whole) & {*UNITS, *LARGE}:
        return "".join(str(DIGITS[c]) for c in whole) + decimals  # a year or a code, digit by digit
    total, section, digit, unit = 0, 0, 0, 1
    for character in whole:
        if character in DIGITS:
            digit, unit = DIGITS[character], 10 if character in "零〇" else unit
        elif character in UNITS:
            unit = UNITS[character]
            section, digit = section + (digit or 1) * unit, 0
        else:
            unit = LARGE[character]
            total = (total + section + digit) * unit if unit > total else total + (section + digit) * unit
            section, digit = 0, 0
    return str(total + section + digit * max(unit // 10, 1)) + decimals
