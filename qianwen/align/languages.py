"""Whether a short text is in English or in Chinese, by its characters.

Short answers are too short for statistics of a language, but these two have different scripts. Names, codes and units
in Latin letters are usual in Chinese text; Chinese characters are not usual in English text.
"""

import re

HAN = re.compile(r"[\u3400-\u9fff]")
LATIN = re.compile(r"[A-Za-zÀ-ɏ]+")
MIN_HAN = 0.5  # more than this share of the words and characters of a Chinese text
MAX_HAN = 0.2  # of those of an English text


def is_in_language(text: str, language: str) -> bool:
    """Whether `text` is in `language`, `en` or `zh`. Text without letters, such as a number, is in both."""
    han, words = len(HAN.findall(text)), len(LATIN.findall(text))
    if not han and not words:
        return True
    share = han / (han + words)
    return share > MIN_HAN if language == "zh" else share <= MAX_HAN
