"""What each training dialogue teaches: one of the abilities of the Qwen report (section 3.1), and its language.

A record may name its ability in the field `ability`. Otherwise it is guessed: calls of functions are service, and other
dialogues get points for words in the instruction, English and Chinese (`ability_words.toml`). The ability with the most
points is chosen, the earlier one in `ABILITIES` if two have the same number, and question answering if none has one.

The guess is for counting what a data set contains, not for choosing single rows: of 240 unseen rows of Alpaca that were
labelled by hand 29 % got another label, of 210 rows written for the tests 16 % before and 2 % after corrections
(`docs/log.md`). Most mistakes are rows without a known word, which count as question answering.
"""

import functools
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from importlib import resources

from rich.table import Table

from qianwen.align.records import Dialogue
from qianwen.data.documents.language_id import languages
from qianwen.runtime.translation import tr

ABILITIES = (
    "service", "safety", "role play", "coding", "mathematics", "summarisation", "nlp", "understanding",
    "brainstorming and planning", "writing", "question answering",
)  # fmt: skip
SERVICE, DEFAULT = "service", "question answering"
MAX_LANGUAGES = 5  # columns of the table; the others are added up
START, END = 400, 200  # characters of a long instruction that are read: the task is at its start or at its end
LONG = 400  # characters of a question that contains a text to read

_GREETING = re.compile(r"\W*(hi|hello|hey|你好|您好|嗨|在吗)\W*", re.IGNORECASE)
_REACT = re.compile(r"^(Action Input|Observation|Action)\s*[:：]", re.MULTILINE)
_HARM = re.compile(
    r"illegal|harmful|unethical|unsafe|dangerous|violat|privacy|违法|非法|有害|违反|危险|隐私|伤害|不道德"
)
_REFUSAL = re.compile(
    r"^\W*(i'?m sorry|sorry|i can'?(t|not)|i won'?t|i'?m (unable|not able)|抱歉|对不起|很抱歉|我不能|我无法)",
    re.IGNORECASE,
)
_PLAIN_SYSTEM = re.compile(r"helpful|\bai assistant\b|qwen|助手|通义千问", re.IGNORECASE)


@functools.cache
def _rules() -> dict[str, list[tuple[int, re.Pattern[str]]]]:
    """Ability → points and the pattern that gives them."""
    text = resources.files("qianwen.align").joinpath("ability_words.toml").read_text(encoding="utf-8")
    return {
        ability: [(rule["points"], re.compile("|".join(rule["words"]), re.IGNORECASE | re.DOTALL)) for rule in rules]
        for ability, rules in tomllib.loads(text).items()
    }


def ability_of(dialogue: Dialogue) -> str:
    """The ability that the record names, or the guess."""
    return dialogue.ability or guess_ability(dialogue)


def guess_ability(dialogue: Dialogue) -> str:
    """The ability of `ABILITIES` with the most points."""
    messages = dialogue.messages
    if dialogue.functions or any(message.role == "tool" or message.tool_calls for message in messages):
        return SERVICE
    if any(_REACT.search(message.text) for message in messages if message.role != "user"):
        return SERVICE
    instruction = _instruction(dialogue)
    points = {ability: _points(ability, instruction) for ability in _rules()}
    system = messages[0].text if messages and messages[0].role == "system" else ""
    if system and not _PLAIN_SYSTEM.search(system):
        points["role play"] += _points("role play", system)
    answer = next((message.text for message in messages if message.role == "assistant"), "")[:START]
    points["safety"] += 6 * bool(_REFUSAL.search(answer) and _HARM.search(answer))
    points["coding"] += 3 * ("```" in answer)
    points["understanding"] += 2 * (len(instruction) >= LONG and instruction.rstrip().endswith(("?", "？")))
    best = max(points, key=lambda ability: points[ability])
    return best if points[best] else DEFAULT


def _points(ability: str, text: str) -> int:
    return sum(points for points, pattern in _rules()[ability] if pattern.search(text))


def _instruction(dialogue: Dialogue) -> str:
    """The first question that is more than a greeting; the middle of a long one is left out."""
    questions = [message.text.strip() for message in dialogue.messages if message.role == "user"]
    text = next((text for text in questions if not _GREETING.fullmatch(text)), "")
    return text if len(text) <= START + END else f"{text[:START]}\n{text[-END:]}"


def count_abilities(dialogues: Sequence[Dialogue]) -> dict[str, dict[str, int]]:
    """Ability → language → number of dialogues; the most frequent first."""
    codes = [language.code for language in languages([_instruction(dialogue) for dialogue in dialogues])]
    counts = Counter(zip(map(ability_of, dialogues), codes, strict=True))
    totals = Counter(map(ability_of, dialogues))
    return {
        ability: {code: count for (name, code), count in counts.most_common() if name == ability}
        for ability, _ in totals.most_common()
    }


def abilities_table(counts: dict[str, dict[str, int]]) -> Table:
    """One row for each ability, one column for each frequent language."""
    per_language: Counter[str] = Counter()
    for of_ability in counts.values():
        per_language.update(of_ability)
    frequent = [code for code, _ in per_language.most_common(MAX_LANGUAGES)]
    rest = len(per_language) > MAX_LANGUAGES
    table = Table(box=None, header_style="dim")
    table.add_column(tr("ability"))
    for heading in (tr("dialogues"), tr("share"), *frequent, *([tr("others")] if rest else [])):
        table.add_column(heading, justify="right")
    total, names = sum(per_language.values()), _names()
    for ability, of_ability in counts.items():
        size = sum(of_ability.values())
        cells = [*(of_ability.get(code, 0) for code in frequent)]
        cells += [size - sum(cells)] if rest else []
        table.add_row(names.get(ability, ability), f"{size:,}", f"{size / total:.1%}", *(f"{cell:,}" for cell in cells))
    return table


def _names() -> dict[str, str]:
    """The abilities in the user's language."""
    return {
        "service": tr("service"),
        "safety": tr("safety"),
        "role play": tr("role play"),
        "coding": tr("coding"),
        "mathematics": tr("mathematics"),
        "summarisation": tr("summarisation"),
        "nlp": tr("NLP"),
        "understanding": tr("understanding"),
        "brainstorming and planning": tr("brainstorming and planning"),
        "writing": tr("writing"),
        "question answering": tr("question answering"),
    }
