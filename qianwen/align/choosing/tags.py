"""Tags of dialogues, written by any chat model: what a question is about and what it asks for.

    question → 1 to 6 short tags as JSON → one spelling for each tag → tags of too few rows are removed

Every reply is appended to a file when it arrives. Its key is a hash of the question and the name of the model, so the
same command asks only for what is missing, also after rows were added to the data.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from qianwen.align.request_log import in_order
from qianwen.chat.messages import Message
from qianwen.chat.model import ChatModel, collect
from qianwen.runtime.files import json_text, read_jsonl, repair_jsonl

INSTRUCTION = (
    "You label the questions of users. Read the question and write one to six short tags, of one to three words each, "
    "that name its subject and each task that it sets, such as: python, bug fixing, explanation. Use the language of "
    "the question. Do not answer the question."
)
MAX_TAGS, MAX_TAG, MAX_TOKENS = 6, 40, 160
MAX_QUESTION = 3000  # characters of a question that the model reads
SCHEMA = {
    "type": "object",
    "properties": {
        "tags": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG},
            "minItems": 1,
            "maxItems": MAX_TAGS,
        }
    },
    "required": ["tags"],
    "additionalProperties": False,
}


def question_key(question: str, model_name: str) -> str:
    """Equal for the same question to the same model."""
    return hashlib.sha256(json.dumps([INSTRUCTION, model_name, question]).encode()).hexdigest()[:24]


def missing_questions(path: Path, questions: Sequence[str], model_name: str) -> list[str]:
    """The questions without a row in the file, each once. Half a row that a kill left is removed."""
    known = {row["key"] for row in read_jsonl(path)} if repair_jsonl(path) else set()
    return [each for each in dict.fromkeys(questions) if question_key(each, model_name) not in known]


def write_tags(
    model: ChatModel, path: Path, questions: Sequence[str], model_name: str, concurrency: int
) -> Iterator[list[str]]:
    """Request the tags of each question, append them to the file, and yield them."""

    def request(question: str) -> list[str]:
        messages = [Message("system", INSTRUCTION), Message("user", question[:MAX_QUESTION])]
        reply = model.chat(messages, response_format=SCHEMA, temperature=0, max_tokens=MAX_TOKENS)
        return reply_tags(collect(reply).text)

    with path.open("a", encoding="utf-8") as file:
        for question, tags in zip(questions, in_order(request, questions, concurrency), strict=True):
            file.write(json_text({"key": question_key(question, model_name), "tags": tags}) + "\n")
            file.flush()
            yield tags


def read_tags(path: Path, questions: Sequence[str], model_name: str) -> list[frozenset[str]]:
    """The tags of each question, from the file."""
    rows = {row["key"]: frozenset(row["tags"]) for row in read_jsonl(path)}
    return [rows[question_key(question, model_name)] for question in questions]


def reply_tags(reply: str) -> list[str]:
    """The tags of a reply in one spelling, each once; none if the reply is not the JSON that was requested."""
    try:
        written = json.loads(reply)["tags"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    texts = [tag for tag in written if isinstance(tag, str)] if isinstance(written, list) else []
    return [tag for tag in dict.fromkeys(map(normalised, texts)) if tag][:MAX_TAGS]


def normalised(tag: str) -> str:
    """One spelling for the spellings of a tag: width, case, punctuation and English plurals do not count.

    >>> normalised("Data_Structures")
    'data structure'
    """
    words = re.sub(r"[^\w+#]|_", " ", unicodedata.normalize("NFKC", tag).lower()).split()
    return " ".join(re.sub(r"(?<=[a-z]{3})(?<![siu])s$", "", word) for word in words)


def without_rare(tags: Sequence[frozenset[str]], min_rows: int) -> list[frozenset[str]]:
    """The tags of each row that at least `min_rows` rows have: rare ones are mostly errors and spellings."""
    counts = Counter(tag for row in tags for tag in row)
    return [frozenset(tag for tag in row if counts[tag] >= min_rows) for row in tags]
