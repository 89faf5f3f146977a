"""The calibration texts of `qianwen quantize`: dialogues, documents of a corpus, or both, equally many of every kind.

The choice of calibration texts matters more than the rounding method (docs/log.md), and the documents of a corpus are
sorted by source. So texts are sampled from the whole file, in equal numbers for each language and kind; dialogues are
one kind. Every second text starts at a random position. The reason is the first token of a text: its activations are
many times larger than those of other tokens, and all tokens attend to it. A model that was calibrated only on texts
that begin with `<|im_start|>` gets worse on texts that begin with another token.
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from qianwen.align.dialogues import Dialogue, read_dialogues
from qianwen.chat.messages import Message
from qianwen.chat.render import render
from qianwen.data.documents.document import UNKNOWN, Document, Rejected
from qianwen.data.documents.readers import readable_documents
from qianwen.data.documents.sources import standard_library
from qianwen.runtime.errors import DataError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

DRAWN_FROM = 100_000  # calibration texts are sampled from the first so many texts of a file
ANSWER_LEN = 20_000  # maximum characters of an answer made of Python's documentation
T = TypeVar("T")


def calibration_texts(
    data: Sequence[Path], tokenizer: Tokenizer, *, samples: int, seq_len: int, seed: int = 0, to_tune: bool = False
) -> list[list[int]]:
    """Token ids of `samples` texts of `data`. Dialogues are formatted in ChatML, as for training.

    Without data the texts are Python's documentation and code. `to_tune` only changes the message: the texts are for
    tuning scales. Raises DataError for a file that contains neither dialogues nor documents.
    """
    chance = random.Random(seed)
    if data:
        texts = itertools.chain.from_iterable(itertools.islice(texts_of(path), DRAWN_FROM) for path in data)
    else:
        message = (
            "no --data: calibrating on Python's documentation and code (English); "
            "texts like your own give a better model"
        )
        console.print(tr(message), style="yellow")
        texts = documentation()
    chosen = draw(((kind_of(text), text) for text in texts), samples, chance)
    chance.shuffle(chosen)  # kinds alternate in `chosen`: without this, every second text would be of the same kinds
    ids = [_ids(text, tokenizer) for text in chosen]
    ids[1::2] = [text[chance.randrange(max(len(text) - seq_len, len(text) // 2, 1)) :] for text in ids[1::2]]
    kinds = sorted(Counter(kind_of(text) for text in chosen).items(), key=lambda named: (-named[1], named[0]))
    message = "calibrating on {texts} text{texts:plural}, {tokens:,} tokens: {kinds}"
    if to_tune:
        message = "tuning on {texts} text{texts:plural}, {tokens:,} tokens: {kinds}"
    drawn = {"texts": len(ids), "tokens": sum(min(len(text), seq_len) for text in ids)}
    console.print(tr(message, **drawn, kinds=", ".join(f"{count} {kind}" for kind, count in kinds)))
    return ids


def texts_of(path: Path) -> Iterator[Dialogue | Document]:
    """The dialogues of a file in any form that `qianwen sft` reads, or the documents of what `qianwen data` reads."""
    dialogues = read_dialogues(path)
    try:
        return itertools.chain([next(dialogues)], dialogues)
    except (DataError, OSError) as error:
        # A .json file is a list of dialogues or nothing: as a document it would count as source code.
        documents = iter(()) if path.suffix == ".json" else readable_documents(path)
        first = next(documents, None)
        if first is None:
            raise DataError(tr("{error}\nit contains no documents either", error=error)) from error
        return itertools.chain([first], documents)


def kind_of(text: Dialogue | Document) -> str:
    """The kind of a text, with its language in front where that is known."""
    if isinstance(text, Dialogue):
        return "dialogues"
    return text["kind"] if text["lang"] == UNKNOWN else f"{text['lang']} {text['kind']}"


def draw(named: Iterable[tuple[str, T]], count: int, chance: random.Random) -> list[T]:
    """Sample `count` things, equally many of every name.

    Reservoir sampling in each name: every thing of a name is equally likely, and at most `count` are in memory.
    """
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
    """Python's own documentation as questions and answers: pages of its manual and modules alternate."""
    from pydoc_data.topics import topics

    modules = (document for document in standard_library() if not isinstance(document, Rejected))
    for (topic, page), module in zip(topics.items(), modules, strict=False):
        pairs = (f"Explain {topic} in Python.", page), (f"Write {module['source']}.", module["text"])
        for question, answer in pairs:
            yield Dialogue([Message("user", question), Message("assistant", answer[:ANSWER_LEN])])
