"""The rows of a task as cards of a page: question, answer, what was read out of it, and the verdict.

A page has the first `PER_VERDICT` examples of each verdict, so that it stays small for a task of any size. The labels
have the counts of all rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qianwen.eval.compare_report import verdict_text
from qianwen.eval.question_texts import question_texts
from qianwen.eval.rows import Row
from qianwen.runtime.files import json_text
from qianwen.runtime.page import Card
from qianwen.runtime.translation import tr

VERDICTS = ("wrong", "unparsed", "right", "unjudged", "error")
PER_VERDICT = 25
MAX_TEXT_LEN = 8000  # characters of one text of a card
MAX_TITLE_LEN = 90


def example_cards(rows: Sequence[Row]) -> tuple[dict[str, str], list[Card]]:
    """The label of each verdict that occurs, with its count, and the cards in the order of the examples."""
    counts = Counter(map(verdict, rows))
    labels = {name: f"{verdict_text(name)} ({counts[name]:,})" for name in VERDICTS if counts[name]}
    questions = question_texts([_prompt(row) for row in rows])
    room, cards = dict.fromkeys(VERDICTS, PER_VERDICT), []
    for row, question in zip(rows, questions, strict=True):
        if room[verdict(row)]:
            room[verdict(row)] -= 1
            cards.append(Card(verdict(row), _title(row, question), list(_parts(row, question))))
    return labels, cards


def verdict(row: Row) -> str:
    """The verdict of the row, or `error` for an example without an answer."""
    return "error" if "error" in row else row["score"]["verdict"]


def _prompt(row: Row) -> str:
    return row["prompt"][-1] if row["prompt"] else ""


def _title(row: Row, question: str) -> str:
    line = " ".join(question.split()) or ", ".join(f"{name} {value}" for name, value in row["facts"].items())
    parts = [f"#{row['index']}", verdict_text(verdict(row)), _cut(line, MAX_TITLE_LEN)]
    return " · ".join(part for part in parts if part)


def _parts(row: Row, question: str) -> Iterator[tuple[str, str]]:
    if question:
        yield tr("question"), _short(question)
    if "error" in row:
        yield tr("error"), _short(row["error"])
    else:
        yield from _answer(row["answer"])
        extracted = row["score"]["extracted"]
        yield tr("extracted"), tr("nothing") if extracted is None else _short(extracted)
    if row["facts"]:
        yield tr("expected answer and other facts"), _short(_listed(row["facts"]))
    if "error" not in row:
        yield tr("verdict"), f"{verdict_text(verdict(row))}\n{_scores(row['score']['shares'])}"
    if (prompt := "\n\n".join(row["prompt"])) and prompt != question:
        yield tr("the whole prompt"), _short(prompt)


def _answer(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Whatever the answer has: texts of all samples, calls, a conversation, log-probabilities."""
    samples = [answer, *answer.get("further", ())]
    for number, sample in enumerate(samples, start=1):
        if text := sample.get("text"):
            label = tr("answer") if len(samples) == 1 else tr("answer {number}", number=number)
            yield label, _short(text)
    if calls := answer.get("tool_calls"):
        yield tr("calls of functions"), _short(json_text(calls, indent=1))
    if conversation := answer.get("conversation"):
        lines = (f"{message['role']}: {message.get('content') or ''}" for message in conversation)
        yield tr("conversation"), _short("\n\n".join(lines))
    if logprobs := answer.get("choice_logprobs"):
        yield tr("log-probability of each choice"), "  ".join(f"{value:.3f}" for value in logprobs)
    if "logprob" in answer:
        yield tr("log-probability"), tr("{value:.2f} nats", value=answer["logprob"])


def _listed(facts: Mapping[str, Any]) -> str:
    lines = (f"{name}: {value if isinstance(value, str) else json_text(value)}" for name, value in facts.items())
    return "\n".join(lines)


def _scores(shares: Mapping[str, Sequence[float]]) -> str:
    return "\n".join(f"{name}: {amount:.4g} / {count:.4g}" for name, (amount, count) in shares.items())


def _short(text: str) -> str:
    if len(text) <= MAX_TEXT_LEN:
        return text
    message = "[{count:,} characters are left out here; they are in the file of answers]"
    return f"{text[:MAX_TEXT_LEN]}\n{tr(message, count=len(text) - MAX_TEXT_LEN)}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
