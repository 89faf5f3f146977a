"""Rules that decide whether an answer obeys a system prompt. Each reads the text alone; no model judges.

    language             en or zh                        no_digits            no digit of any script
    starts_with          first words                     json_keys            a JSON object with exactly these keys
    ends_with            last words                      items                a list of exactly n entries, nothing else
    equals               exactly this text               question             ends with a question mark
    one_of               one of these labels             no_question          no question mark
    contains             all of these words              lower_case           no capital letter
    contains_any         one of these words              upper_case           no small letter
    excludes             none of these words             one_line             no line break
    sentences            exactly n                       without_characters   none of these characters
    max_sentences        at most n                       emoji                at least one emoji (false: none)
    max_words            at most n English words         in_role              never says that it is an AI or a model
    max_characters       at most n, without blanks

An answer must also have content besides the words that are required at its start and end, and must not repeat an
earlier answer word for word: else a model could obey by saying nothing. Spaces, quotation marks and bold marks around
an answer are ignored, and so are capitals and final punctuation where words are compared.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qianwen.align.languages import HAN, LATIN, is_in_language
from qianwen.align.sentences import sentences

Rules = Mapping[str, Any]
MARKS = " \t\r\n\u3000*_`\"'“”‘’「」『』"
FINAL = MARKS + ".!?。！？…,，;；:：~～"
COMPLETE = ("equals", "one_of")  # these say what the complete answer is
FENCE = re.compile(r"\A```\w*\s*\n(.*)\n\s*```\Z", re.DOTALL)
ITEM = re.compile(r"(?:[-*•·–]|\d{1,2}[.)、．）]|[（(]\d{1,2}[)）]|[一二三四五六七八九十]、)\s*\S")
EMOJI = re.compile("[\u2600-\u27bf\u2b50\u2b55\U0001f000-\U0001faff]")
ADMISSION = re.compile(
    r"\b(?:as|am|i'm|i’m|just|only|really|actually|was|being|called) (?:an? |the )?(?:\w+ ){0,3}?"
    r"(?:ai|a\.i\.|chatbot|bot|machine learning model|computer program|(?:virtual|digital) assistant"
    r"|artificial intelligence)\b"
    r"|\b(?:large )?language model\b|\bopenai\b|\bchatgpt\b|\bqwen\b|\balibaba\b|\banthropic\b|\bsmollm\b"
    r"|\bmy (?:training data|developers)\b"
    r"|(?:大型?)?语言模型|人工智能(?:助手|模型|程序)|(?:我是|作为|只是)(?:一个|一款|一名)?(?:人工智能|机器人|聊天机器人|虚拟助手|计算机程序|AI)"
    r"|AI ?(?:助手|模型|语言模型)|智能助手|通义千问|阿里(?:云|巴巴)|训练数据",
    re.IGNORECASE,
)
DENIAL = re.compile(
    r"(?:\bnot\b|\bno\b|\bnever\b|n['’]t\b|\bnor\b|\bneither\b|\bwhat is\b|\bwhat's\b|\bknow of\b"
    r"|\bheard of\b|不是|并非|没有|哪里是|怎么会是|什么是|没听说过|不认识|不知道)"
    r"(?:(?!\bbut\b|\bam\b|而是)[^.!?。！？,，]){0,30}$",
    re.IGNORECASE,
)


def broken(rules: Rules, answer: str, earlier: Sequence[str] = ()) -> list[str]:
    """The names of the rules that `answer` breaks. `content` and `repeats` are the two rules that always hold."""
    names = [name for name, value in rules.items() if not RULES[name](answer, value)]
    if not any(name in rules for name in COMPLETE):
        names += [] if _has_content(rules, answer) else ["content"]
        names += ["repeats"] if answer.strip() in {each.strip() for each in earlier} else []
    return names


def _has_content(rules: Rules, answer: str) -> bool:
    text = _plain(answer)
    for end in (rules.get("starts_with", ""), rules.get("ends_with", "")):
        text = text.replace(_plain(end.strip(FINAL)), "") if end else text
    return len(re.findall(r"\w", text)) >= 2


def _plain(text: str) -> str:
    """For comparing words: one form of characters, no capitals, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _starts_with(answer: str, value: str) -> bool:
    text, start = _plain(answer.lstrip(MARKS)), _plain(value.strip(FINAL))
    return text.startswith(start) and not _continues(text[len(start) :][:1], start[-1:])


def _ends_with(answer: str, value: str) -> bool:
    text, end = _plain(answer.rstrip(FINAL)), _plain(value.strip(FINAL))
    return text.endswith(end) and not _continues(text[: -len(end)][-1:], end[:1])


def _continues(neighbour: str, edge: str) -> bool:
    """Whether two characters belong to one word: "over" does not end "moreover". Chinese has no such borders."""
    return neighbour.isalnum() and edge.isalnum() and not (HAN.match(neighbour) or HAN.match(edge))


def _contains(answer: str, word: str) -> bool:
    text, word = _plain(answer), _plain(word)
    places = (match.start() for match in re.finditer(re.escape(word), text))
    return any(
        not _continues(text[place - 1 : place], word[0]) and not _continues(text[place + len(word) :][:1], word[-1])
        for place in places
    )


def _language(answer: str, value: str) -> bool:
    has_letters = bool(HAN.search(answer) if value == "zh" else LATIN.search(answer))
    return has_letters and is_in_language(answer, value)


def _equals(answer: str, value: str) -> bool:
    return _plain(answer.strip(FINAL)) == _plain(value.strip(FINAL))


def _json_keys(answer: str, keys: Sequence[str]) -> bool:
    text = answer.strip()
    fenced = FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(value, dict)
        and sorted(value) == sorted(keys)
        and all(each not in ("", None) for each in value.values())
    )


def _items(answer: str, count: int) -> bool:
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    return len(lines) == count and all(ITEM.match(line) for line in lines)


def _in_role(answer: str, _: Any) -> bool:
    return all(DENIAL.search(answer[max(match.start() - 40, 0) : match.end()]) for match in ADMISSION.finditer(answer))


RULES: dict[str, Callable[[str, Any], bool]] = {
    "language": _language,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "equals": _equals,
    "one_of": lambda answer, labels: any(_equals(answer, label) for label in labels),
    "contains": lambda answer, words: all(_contains(answer, word) for word in words),
    "contains_any": lambda answer, words: any(_contains(answer, word) for word in words),
    "excludes": lambda answer, words: not any(_contains(answer, word) for word in words),
    "sentences": lambda answer, count: len(sentences(answer)) == count,
    "max_sentences": lambda answer, count: 1 <= len(sentences(answer)) <= count,
    "max_words": lambda answer, count: 1 <= len(re.findall(r"\S*\w\S*", answer)) <= count,
    "max_characters": lambda answer, count: 1 <= len("".join(answer.split())) <= count,
    "no_digits": lambda answer, _: not any(unicodedata.category(character).startswith("N") for character in answer),
    "json_keys": _json_keys,
    "items": _items,
    "question": lambda answer, _: answer.rstrip(MARKS).endswith(("?", "？")),
    "no_question": lambda answer, _: "?" not in answer and "？" not in answer,
    "lower_case": lambda answer, _: not any(character.isupper() for character in answer),
    "upper_case": lambda answer, _: not any(character.islower() for character in answer),
    "one_line": lambda answer, _: "\n" not in answer.strip(),
    "without_characters": lambda answer, characters: not set(answer) & set(characters),
    "emoji": lambda answer, wanted: bool(EMOJI.search(answer)) == wanted,
    "in_role": _in_role,
}
