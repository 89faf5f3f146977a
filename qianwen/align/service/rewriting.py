"""Other words for a dialogue with calls, by a model; its facts must stay, else the dialogue stays as it was.

Only the first question is rewritten, and the last answer where it is made of arguments and results. A new text is
used if it has the same numbers, citations and quoted texts, names every argument and result that the text named, is in
the same language, and has a similar length. So calls and results fit it as before. An answer that explains something
is left as it is: no rule would notice that its meaning has changed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from qianwen.align.languages import is_in_language
from qianwen.align.service.citations import cited
from qianwen.chat.messages import Message
from qianwen.chat.model import ChatModel, collect

PROMPTS = {
    "en": {
        "question": "Say this request in other words, as a person would type it. Keep every number, name, code and "
        "quoted text exactly. Write only the new request.\n\n{text}",
        "answer": "Say this answer in other words, naturally and briefly. Keep every number, name, code, quoted text "
        "and citation such as [1] exactly. Write only the new answer.\n\n{text}",
    },
    "zh": {
        "question": "请换一种说法表达下面的请求，像普通人打字那样。"
        "所有数字、名称、代码和引号里的内容保持不变。只写新的请求。\n\n{text}",
        "answer": "请换一种自然简短的说法表达下面的回答。"
        "所有数字、名称、代码、引号里的内容和 [1] 这样的引用保持不变。只写新的回答。\n\n{text}",
    },
}
EXPLAINING = ("no call", "search, one source", "search, two sources")  # kinds whose answers are not rewritten
QUOTES = ('"', "“", "”")
QUOTED = re.compile('["“]([^"“”]+)["”]')
# A question that begins like this is the model's answer to it; a word for a day would date what has no date.
ASSISTANT = re.compile(
    r"(?:sure|certainly|of course|hello|i can|i'm sorry|sorry)\b|当然|好的|您好|你好|抱歉|没问题", re.IGNORECASE
)
DAY = re.compile(r"\b(?:today|yesterday|tomorrow)\b|今天|昨天|明天", re.IGNORECASE)
LENGTHS = (0.5, 2.0)  # of the new text ÷ the old one
NUMBER = re.compile(r"\d+(?:[.:,-]\d+)*")
MAX_TOKENS = 160


def rewritten(model: ChatModel, row: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The row with its question and answer in other words where the facts stayed; `rewritten` names those."""
    messages = [dict(message) for message in row["messages"]]
    values = list(_values(messages))
    changed = []
    places = {"question": 0} if row["kind"] in EXPLAINING else {"question": 0, "answer": len(messages) - 1}
    for part, place in places.items():
        old = messages[place]["content"]
        prompt = PROMPTS[row["language"]][part].format(text=old)
        sampling = {"temperature": 0.7, "top_p": 0.9, "max_tokens": MAX_TOKENS, "seed": seed + place}
        new = collect(model.chat([Message("user", prompt)], **sampling)).text.strip()
        new = new[1:-1] if new[:1] in QUOTES and new[-1:] in QUOTES and new[:1] != old[:1] else new
        if keeps_facts(old, new, values, row["language"]):
            messages[place]["content"] = new
            changed.append(part)
    return {**row, "messages": messages, "rewritten": changed}


def keeps_facts(old: str, new: str, values: Iterable[str], language: str) -> bool:
    """Whether `new` may replace `old`: see above. `values` are the arguments and results of the calls."""
    if new == old or "\n\n" in new or not is_in_language(new, language) or ASSISTANT.match(new):
        return False
    if set(map(str.lower, DAY.findall(new))) - set(map(str.lower, DAY.findall(old))):
        return False
    if not LENGTHS[0] * len(old) <= len(new) <= LENGTHS[1] * len(old):
        return False
    if cited(old) != cited(new) or sorted(NUMBER.findall(old)) != sorted(NUMBER.findall(new)):
        return False
    return all(value in new for value in (*values, *QUOTED.findall(old)) if value in old)


def _values(messages: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Arguments of the calls, and texts in their results."""
    for message in messages:
        for call in message.get("tool_calls", ()):
            yield from (str(value) for value in json.loads(call["function"]["arguments"]).values())
        if message["role"] == "tool" and message["content"].startswith("{"):
            yield from (value for value in json.loads(message["content"]).values() if isinstance(value, str))
