"""L-Eval (An et al., 2023): questions with one right answer about documents of up to 24,000 tokens, for chat models.

    coursera    lectures; one or several right options           exact_match: 0.25 for some of the right ones
    gsm100      word problems after the same 16 worked ones      exact_match
    quality     stories; four options                            exact_match
    tpo         lectures of a TOEFL; four options                exact_match
    sci-fi      stories; true or false                           exact_match over both questions:
                                                                 …/document: in the story, …/world: in the real world
    codeu       the output of a program                          exact_match
    our_reader  gsm100, quality, tpo: the same answers, read by `chat/answers.py`

Prompts, rules (`leval_rules.py`) and cuts are those of the published scripts for ChatGPT. A document that is too long
for the model loses its end, code its beginning; the result says how many were cut. A model behind a URL gets all of it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from qianwen.chat.answers import choice, is_right_number
from qianwen.chat.messages import Message
from qianwen.chat.render import render
from qianwen.eval import leval_rules as rules
from qianwen.eval.data_files import find, json_rows
from qianwen.eval.metrics import Share
from qianwen.eval.reader_cases.rates import extractor
from qianwen.eval.task import Answer, Generate, PromptModel, Score, Task, TaskOptions
from qianwen.runtime.errors import DataError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

MAX_TOKENS = 512
ANSWER = "\nPlease directly give answer without any additional output or explanation"
QUESTION = "Document is as follows. {document} Question: {question} " + ANSWER + "\n Answer: "
AFTER_DOCUMENT = "{document}\n\n{question}"
IN_STORY = "based on the world described in the document."
IN_WORLD = "based on the real-world knowledge and facts up until your last training"
ONE_OPTION = (
    "Now you are given a very long document. Please follow the instruction based on this document. For multi-choice "
    "questions, there is only a sinlge correct option. Please only provide the letter corresponding to the answer "
    "(like A or B) when answering. For other questions, please directly give the concise and accurate answer. "
)
OPTION = re.compile(r"^\s*\(?([A-D])[.)]\s*(.+?)\s*$", re.M)  # "A. text" or "(A) text"
Read = Callable[[str, str], tuple[str, float]]  # answer and reference → what was read, and the credit for it


class Part(NamedTuple):
    """One of L-Eval's tasks: its file, the system prompt, the user's message, and how an answer is read."""

    file: str
    system: str
    message: str
    read: Read
    keeps: str = "beginning"  # of a document that is too long


def _one_letter(reply: str, reference: str) -> tuple[str, float]:
    read = rules.letter(reply)
    return read, rules.letters_credit(read or rules.GUESS, rules.reference_letters(reference))


def _letters(reply: str, reference: str) -> tuple[str, float]:
    read = rules.letters(reply)
    guess = rules.GUESS if reply else ""
    return read, rules.letters_credit(read or guess, rules.reference_letters(reference))


def _number(reply: str, reference: str) -> tuple[str, float]:
    read = rules.number(reply)
    return read, float(bool(read) and int(read) == int(rules.number(reference)))


def _judgement(reply: str, reference: str) -> tuple[str, float]:
    read = rules.judgement(reply)
    return read, float(read == rules.judgement(reference))


def _code(reply: str, reference: str) -> tuple[str, float]:
    read = rules.code_answer(reply, reference)
    return read, rules.code_credit(read, rules.code(reference))


PARTS = {
    "coursera": Part(
        "coursera",
        "Now you are given a very long document. Please follow the instruction based on this document. For "
        "multi-choice questions, there could be a sinlge correct option or multiple correct options. Please only "
        "provide the letter corresponding to the answer (like A or AB) when answering. ",
        QUESTION,
        _letters,
    ),
    "gsm100": Part(
        "gsm100",
        "Given several question answer pairs, you need to follow a similar format to answer the last question. Make "
        "sure the response is end with The answer is _ . ",
        AFTER_DOCUMENT,
        _number,
    ),
    "quality": Part("quality", ONE_OPTION, QUESTION, _one_letter),
    "sci-fi": Part(
        "sci_fi",
        "Now you are given a scientific fiction. I will ask you some questions and the answer should be \"True\" or "
        "\"False\". Notice that you should answer the question based on the evidence in the document instead of your "
        "background knowledge.",
        QUESTION,
        _judgement,
    ),
    "tpo": Part("tpo", ONE_OPTION, QUESTION, _one_letter),
    "codeu": Part(
        "codeU",
        "Now you are given a code base consisting of a large amount of functions and the corresponding comments. In "
        "the end, I will call some functions defined in the code base. Please carefully read these codes and comments "
        "and answer the question.",
        AFTER_DOCUMENT,
        _code,
        keeps="end",
    ),
}  # fmt: skip


class Document(NamedTuple):
    """A document, cut if necessary, with its questions and answers."""

    text: str
    is_cut: bool
    pairs: tuple[tuple[str, str], ...]


class LEval(Task):
    """All questions about the first document, then about the second: the model reads a document once."""

    def __init__(self, name: str, options: TaskOptions) -> None:
        self.name, self.options = f"leval-{name}", options
        self.part = PARTS[name]
        self.chance = {"quality": 0.25, "tpo": 0.25, "sci-fi": 0.5}.get(name)

    @cached_property
    def documents(self) -> list[Document]:
        """The documents of the file. Prints how many of them were cut."""
        name = f"{self.part.file}.jsonl"
        folders = ("leval/", "LEval/Exam/", "LEval-data/Closed-ended-tasks/", "LEval-data/Exam/", "")
        path = find(self.options.data, [folder + name for folder in folders])
        fields: dict[str, type] = {"input": str, "instructions": list, "outputs": list}
        documents = [self._document(f"{path}, row {n}", row) for n, row in enumerate(json_rows(path, fields), start=1)]
        if count := sum(document.is_cut for document in documents):
            message = "{task}: {count} of {total} documents are longer than the model reads and were cut, as in L-Eval"
            console.print(tr(message, task=self.name, count=count, total=len(documents)), style="yellow")
        return documents

    def examples(self) -> Iterable[Generate]:
        for number, document in enumerate(self.documents, start=1):
            for question, output in document.pairs:
                facts: dict[str, Any] = {"document": number, "is_cut": document.is_cut, "target": output}
                if self.part.read is _one_letter:
                    facts["options"] = dict(OPTION.findall(question))
                yield from self._examples(document.text, question, facts)

    def score(self, example: Generate, answer: Answer) -> Score:
        read, credit = self.part.read(answer.text.strip(), example.facts["target"])
        about, ours = example.facts.get("about"), self._read_by_us(example, answer.text)
        shares = {"exact_match": Share(credit)} | ({f"exact_match/{about}": Share(credit)} if about else {})
        shares |= {} if ours is None else {"our_reader": Share(float(ours))}
        return Score(shares=shares, extracted=read or None, is_right=credit == 1)

    def settings(self) -> Mapping[str, Any]:
        rates = {"extractor": extractor("leval_letter")} if self.part.read is _one_letter else {}
        return {
            "protocol": f"chat, greedy, at most {MAX_TOKENS} tokens",
            "system": self.part.system,
            "prompt": self.part.message,
            "documents": f"the {self.part.keeps} of one that is too long" if self.options.model else "whole",
            "max_length": self.options.model().max_len if self.options.model else None,
            "cut_documents": [number for number, each in enumerate(self.documents, start=1) if each.is_cut],
            "rules": "those of L-Eval's published script (eval/leval_rules.py)",
            **rates,
        }

    def _read_by_us(self, example: Generate, reply: str) -> bool | None:
        """Whether the answer is right for the readers of our other tasks; None where there is no such reader."""
        target = example.facts["target"]
        if self.part.read is _number:
            return is_right_number(reply, target)
        if self.part.read is _one_letter:
            return choice(reply, example.facts["options"]) == rules.reference_letters(target)
        return None

    def _examples(self, document: str, question: str, facts: Mapping[str, Any]) -> Iterator[Generate]:
        fits = {"max_tokens": MAX_TOKENS, "cluster": str(facts["document"])}
        messages = self._messages(document, question)
        if self.part.read is not _judgement:
            yield Generate(messages=messages, facts=facts, **fits)
            return
        in_document, _, in_world = facts["target"].partition("[fact:")
        yield Generate(messages=messages, facts={**facts, "target": in_document.strip(), "about": "document"}, **fits)
        text = f"{question.replace(IN_STORY, IN_WORLD)}{ANSWER} \nAnswer:"
        world = {**facts, "target": in_world.strip(" ]"), "about": "world"}
        yield Generate(messages=[Message("user", text)], facts=world, **fits)

    def _messages(self, document: str, question: str) -> list[Message]:
        text = self.part.message.format(document=document, question=question)
        return [Message("system", self.part.system), Message("user", text)]

    def _document(self, place: str, row: Mapping[str, Any]) -> Document:
        questions, outputs = row["instructions"], row["outputs"]
        if len(questions) != len(outputs) or not all(isinstance(each, str) for each in (*questions, *outputs)):
            message = "{path}: `instructions` and `outputs` must be lists of texts of the same length"
            raise DataError(tr(message, path=place))
        pairs = tuple(zip(questions, outputs, strict=True))
        if self.options.model is None:
            return Document(row["input"], False, pairs)
        return self._cut(row["input"], pairs, self.options.model())

    def _cut(self, text: str, pairs: Sequence[tuple[str, str]], model: PromptModel) -> Document:
        """The document with as many tokens as leave room for the longest question and an answer."""
        ids = model.tokenizer.encode(text)
        longest = max((question for question, _ in pairs), key=len, default="")
        around = len(render(self._messages("", longest), model.tokenizer, add_generation_prompt=True).ids)
        room = model.max_len - MAX_TOKENS - around
        if room <= 0:
            message = "{task}: the question alone has {least:,} tokens, but {room:,} fit: choose longer lengths"
            raise DataError(tr(message, task=self.name, least=around, room=model.max_len - MAX_TOKENS))
        if len(ids) <= room:
            return Document(text, False, tuple(pairs))
        kept = ids[:room] if self.part.keeps == "beginning" else ids[-room:]
        return Document(model.tokenizer.decode(kept, errors="ignore"), True, tuple(pairs))
