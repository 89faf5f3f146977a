"""Which texts `qianwen quantize` calibrates on: dialogues, documents of a corpus, or both, of every kind as many.

What a network is calibrated on counts for more than how it is rounded (docs/log.md), and a corpus lies in order of its
sources. So texts are drawn from all of a file, and its languages and kinds take turns; dialogues are a kind of their
own. Every other text is read from somewhere within. The first token of a text is like no other to a network: its
activations are many times as large, and all tokens attend to it. Calibrated on `<|im_start|>` alone, a text that begins
with another word pays for it.
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from qianwen.align.dialogues import Dialogue, read_dialogues
from qianwen.chat.chatml import render
from qianwen.chat.messages import Message
from qianwen.data.documents.document import UNKNOWN, Document, Rejected
from qianwen.data.documents.readers import readable_documents
from qianwen.data.documents.sources import standard_library
from qianwen.runtime.errors import DataError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

DRAWN_FROM = 100_000  # texts of a file, of which those to calibrate on are drawn
ANSWER_LEN = 20_000  # characters of an answer made here
T = TypeVar("T")


def calibration_texts(
    data: Sequence[Path], tokenizer: Tokenizer, *, samples: int, seq_len: int, seed: int = 0, to_tune: bool = False
) -> list[list[int]]:
    """Token ids of `samples` texts of `data`, dialogues laid out in ChatML as they would be to train on.

    Without data they are what Python says of itself. `to_tune` only says what is told the user: that scales will be
    tuned on them. Raises DataError for a file that is neither.
    """
    chance = random.Random(seed)
    if data:
        found = itertools.chain.from_iterable(itertools.islice(texts_of(path), DRAWN_FROM) for path in data)
    else:
        message = (
            "no --data: calibrating on Python's documentation and code (English); "
            "texts like your own give a better model"
        )
        console.print(tr(message), style="yellow")
        found = documentation()
    chosen = draw(((kind_of(text), text) for text in found), samples, chance)
    chance.shuffle(chosen)  # they lay in turns: every other would always be of the same kinds
    ids = [_ids(text, tokenizer) for text in chosen]
    ids[1::2] = [one[chance.randrange(max(len(one) - seq_len, len(one) // 2, 1)) :] for one in ids[1::2]]
    kinds = sorted(Counter(kind_of(text) for text in chosen).items(), key=lambda named: (-named[1], named[0]))
    message = "calibrating on {texts} texts, {tokens:,} tokens: {kinds}"
    if to_tune:
        message = "tuning on {texts} texts, {tokens:,} tokens: {kinds}"
    drawn = {"texts": len(ids), "tokens": sum(min(len(one), seq_len) for one in ids)}
    console.print(tr(message, **drawn, kinds=", ".join(f"{count} {kind}" for kind, count in kinds)))
    return ids


def texts_of(path: Path) -> Iterator[Dialogue | Document]:
    """The dialogues of a file in any form that `qianwen sft` reads, or the documents of what `qianwen data` reads."""
    dialogues = read_dialogues(path)
    try:
        return itertools.chain([next(dialogues)], dialogues)
    except (DataError, OSError) as error:
        # A .json file is a list of dialogues or nothing: as a document it would count as source code.
        found = iter(()) if path.suffix == ".json" else readable_documents(path)
        first = next(found, None)
        if first is None:
            raise DataError(tr("{error}, and it contains no documents either", error=error)) from error
        return itertools.chain([first], found)


def kind_of(text: Dialogue | Document) -> str:
    """Its language, where it is known, and its kind."""
    if isinstance(text, Dialogue):
        return "dialogues"
    return text["kind"] if text["lang"] == UNKNOWN else f"{text['lang']} {text['kind']}"


def draw(named: Iterable[tuple[str, T]], count: int, chance: random.Random) -> list[T]:
    """So many things, of every name in turn; of one name each is as likely as any other, and few are in memory."""
    kept: defaultdict[str, list[T]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for name, thing in named:
        seen[name] += 1
        if len(kept[name]) < count:
            kept[name].append(thing)
        elif (place := chance.randrange(seen[name])) < count:
            kept[name][place] = thing
    for things in kept.values():
        chance.shuffle(things)
    nothing = object()
    turns = itertools.zip_longest(*kept.values(), fillvalue=nothing)
    return [thing for thing in itertools.chain.from_iterable(turns) if thing is not nothing][:count]  # type: ignore[misc]


def _ids(text: Dialogue | Document, tokenizer: Tokenizer) -> list[int]:
    if isinstance(text, Dialogue):
        return render(text.messages, tokenizer, functions=text.functions).ids
    return tokenizer.encode(text["text"])


def documentation() -> Iterator[Dialogue]:
    """What the running Python says of itself, as questions and answers: a page of its manual, a module, in turn."""
    from pydoc_data.topics import topics

    modules = (document for document in standard_library() if not isinstance(document, Rejected))
    for (topic, page), module in zip(topics.items(), modules, strict=False):
        pairs = (f"Explain {topic} in Python.", page), (f"Write {module['source']}.", module["text"])
        for question, answer in pairs:
            yield Dialogue([Message("user", question), Message("assistant", answer[:ANSWER_LEN])])
