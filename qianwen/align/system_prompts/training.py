"""Training dialogues in which a system prompt is obeyed over six turns.

    a form (role, style, task, behaviour) → six turns of a user → answers made to obey → each checked by `rules.py`

In some turns the user asks to drop the rule; the answer obeys all the same. With a model, its own answer is used where
it obeys, ends by itself and is in the right language; so the answers are not only those of the templates. Every
dialogue is checked once more before it is written.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from qianwen.align.languages import is_in_language
from qianwen.align.plain_answers import plain_answers
from qianwen.align.request_log import logged
from qianwen.align.system_prompts.forms import Form, style_or_behaviour, topic_form
from qianwen.align.system_prompts.held_out import NUM_TURNS
from qianwen.align.system_prompts.material import material
from qianwen.align.system_prompts.roles import role_form, task_form
from qianwen.align.system_prompts.rules import COMPLETE, Rules, broken
from qianwen.chat.messages import Message
from qianwen.chat.model import ChatModel
from qianwen.runtime.files import write_jsonl

LANGUAGES = ("en", "zh")
ABILITIES = {"role": "role play", "style": "writing", "task": "nlp", "behaviour": "question answering"}
PRESSURE_SHARE = 0.2  # of the turns after the second
MAX_TOKENS = 160


class Turn(NamedTuple):
    """What the user says, an answer that obeys, and the rules of this turn."""

    question: str
    answer: str
    rules: Rules


@dataclass(frozen=True)
class Dialogue:
    """A system prompt and its turns."""

    form: Form
    turns: tuple[Turn, ...]

    def row(self, answers: Sequence[str]) -> dict[str, Any]:
        """The record of the dialogue with these answers."""
        messages = [{"role": "system", "content": self.form.system}]
        for turn, answer in zip(self.turns, answers, strict=True):
            messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": answer}]
        language = "zh" if is_in_language(self.form.system, "zh") else "en"
        return {
            "messages": messages,
            "ability": ABILITIES[self.form.kind],
            "kind": self.form.kind,
            "language": language,
        }


def training_dialogues(count: int, seed: int) -> Iterator[Dialogue]:
    """`count` dialogues; kinds and languages in turn. The same seed gives the same dialogues."""
    draw = random.Random(f"{seed}/system prompts")
    for number in range(count):
        language = LANGUAGES[number // 6 % 2]
        # style and behaviour have the most forms
        build = (role_form, style_or_behaviour, task_form, style_or_behaviour, topic_form, style_or_behaviour)[
            number % 6
        ]
        form = build(language, draw)
        dialogue = Dialogue(form, tuple(_turns(form, language, draw)))
        faults = dialogue_faults(dialogue, [turn.answer for turn in dialogue.turns])
        assert not any(faults), f"{faults}: {dialogue}"
        yield dialogue


def _turns(form: Form, language: str, draw: random.Random) -> Iterator[Turn]:
    exchanges = list(form.exchanges)
    used = {question for question, _, _ in exchanges}
    plain = draw.sample([each for each in plain_answers(language) if each.question not in used], NUM_TURNS)
    places = sorted(draw.sample(range(NUM_TURNS), len(exchanges)))
    for number in range(NUM_TURNS):
        if number in places:
            yield Turn(*exchanges[places.index(number)])
            continue
        answer = form.compose(plain[number], draw)
        excluded = form.rules.get("excludes", ())
        rules = {"equals": answer} if any(each in answer for each in excluded) else form.rules
        pressed = number >= 2 and draw.random() < PRESSURE_SHARE
        before = draw.choice(material(language)["pressure"]) if pressed else ""
        yield Turn(before + plain[number].question, answer, rules)


def dialogue_faults(dialogue: Dialogue, answers: Sequence[str]) -> list[list[str]]:
    """The broken rules of each answer."""
    return [
        broken(turn.rules, answer, answers[:number])
        for number, (turn, answer) in enumerate(zip(dialogue.turns, answers, strict=True))
    ]


def answered_by(model: ChatModel, dialogue: Dialogue, seed: int) -> dict[str, Any]:
    """The row of a dialogue with the model's answers where they obey; `own_answers` counts them."""
    answers: list[str] = []
    messages = [Message("system", dialogue.form.system)]
    num_own = 0
    for number, turn in enumerate(dialogue.turns):
        messages.append(Message("user", turn.question))
        answer = turn.answer
        if not any(name in turn.rules for name in COMPLETE):  # else there is only one right answer
            own, is_ended = _reply(model, messages, seed + number)
            is_usable = is_ended and not broken(turn.rules, own, answers)
            num_own += is_usable
            answer = own if is_usable else answer
        answers.append(answer)
        messages.append(Message("assistant", answer))
    return {**dialogue.row(answers), "own_answers": num_own}


def _reply(model: ChatModel, messages: Sequence[Message], seed: int) -> tuple[str, bool]:
    deltas = list(model.chat(list(messages), temperature=0.7, top_p=0.9, max_tokens=MAX_TOKENS, seed=seed))
    return "".join(delta.text for delta in deltas).strip(), deltas[-1].finish_reason == "stop"


def write_dialogues(path: Path, count: int, seed: int) -> None:
    """Write `count` dialogues with the answers of the templates."""
    rows = (dialogue.row([turn.answer for turn in dialogue.turns]) for dialogue in training_dialogues(count, seed))
    write_jsonl(path, rows)


def model_rows(
    model: ChatModel, dialogues: Sequence[Dialogue], path: Path, *, seed: int, concurrency: int
) -> Iterator[dict[str, Any]]:
    """The rows with answers of a model, appended to `path` in order; those that are there are not asked again."""

    def request(numbered: tuple[int, Dialogue]) -> dict[str, Any]:
        return answered_by(model, numbered[1], seed=(seed * 1_000_003 + numbered[0]) * 97)

    yield from logged(path, request, list(enumerate(dialogues)), concurrency)
