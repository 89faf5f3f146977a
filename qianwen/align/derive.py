"""Questions and answers that a corpus holds without saying so: supervised data nobody had to write.

    definition   "Bread is a staple food."           → What is bread?            Bread is a staple food.
    person       "Ada Lovelace was an English …"     → Who was Ada Lovelace?     Ada Lovelace was an English …
    docstring    def dedent(…): "Remove any …"       → What does dedent do?      dedent removes any …
    arithmetic   generated: one digit more or less   → What is 47 + 8?           47 + 8 = 55.

Every answer opens by naming what was asked, so whether a model learned the form can be told without judging its facts.
A pair goes where its document went, to the learning or to the held-out part. Arithmetic is divided by its facts: of
{47, 8, 55} all problems (both sums and the difference) go to one side, so no held-out problem is a learned one turned
round.

What this leaves out: whether an answer is true. A sentence is taken at its word.
"""

import ast
import random
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from qianwen.data.pipeline import is_held_out
from qianwen.data.readers import Document

SENTENCE = re.compile(r".*?[.!?。](?=\s+[\"“«¿¡]?[A-ZÀ-Þ]|\s*$)", re.S)
ANSWER_LEN = range(30, 181)  # characters
WORD = r"[^\s,;:()\[\]«»\"“”]+"
MAX_TERM = 100  # no number of a problem is larger
LINES = 16  # problems in a document


class Grammar(NamedTuple):
    """How a language says that something is something, and asks for it."""

    articles: str
    what: dict[str, str]  # copula → question
    who: dict[str, str]


def _questions(pattern: str, *forms: str) -> dict[str, str]:
    """`is=is are=are` fills the pattern's verb: copula of the sentence → question."""
    return {copula: pattern.format(verb) for copula, verb in (form.split("=") for form in forms)}


GRAMMARS = {
    "en": Grammar(
        articles="the|a|an",
        what=_questions("What {} {{}}?", "is=is", "was=was", "are=are", "were=were"),
        who=_questions("Who {} {{}}?", "is=is", "was=was", "are=are", "were=were"),
    ),
    "fr": Grammar(
        articles="les?|la|une?",
        what=_questions("Qu’est-ce que {{}} ?", "est=", "était=", "sont=", "étaient="),
        who=_questions("Qui {} {{}} ?", "est=est", "était=était", "sont=sont", "étaient=étaient"),
    ),
    "es": Grammar(
        articles="el|la|los|las|una?",
        what=_questions("¿Qué {} {{}}?", "es=es", "era=era", "fue=fue", "son=son", "eran=eran"),
        who=_questions("¿Quién {} {{}}?", "es=es", "era=era", "fue=fue"),
    ),
}
# A docstring says as an order what a function does; the answer says it as a fact.
ORDER = re.compile(
    r"(?P<verb>Add|Append|Apply|Call|Change|Check|Clear|Close|Compare|Compile|Compute|Configure|Connect|Construct|Convert"
    r"|Create|Decode|Delete|Determine|Display|Emit|Encode|Ensure|Execute|Extract|Fill|Find|Format|Generate|Get|Handle"
    r"|Insert|Install|Invoke|Iterate|Load|Log|Make|Mark|Move|Normalize|Open|Parse|Perform|Print|Produce|Put|Raise|Read"
    r"|Receive|Register|Release|Remove|Replace|Reset|Resolve|Retrieve|Return|Run|Send|Set|Show|Split|Start|Stop|Store"
    r"|Translate|Turn|Update|Use|Wait|Wrap|Write)s? "
)


class Pair(NamedTuple):
    """A question, its answer, the kind they are of, and `opening`: a pattern every answer to it must begin with."""

    question: str
    answer: str
    kind: str
    opening: str

    def row(self) -> dict[str, Any]:
        """As a line of the dialogue files that `qianwen sft` reads."""
        messages = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        return {"messages": messages, "kind": self.kind, "opening": self.opening}


def pairs_of(documents: Iterable[Document]) -> Iterator[Pair]:
    """Every pair the documents hold; of pairs with the same question the first."""
    asked: set[str] = set()
    for document in documents:
        for pair in docstrings(document) if document["kind"] == "code" else definitions(document):
            if pair.question not in asked:
                asked.add(pair.question)
                yield pair


def definitions(document: Document) -> Iterator[Pair]:
    """The first sentence of a document, where it says what something is."""
    language = document["lang"] if document["lang"] in GRAMMARS else "en"
    kind = "person" if document["kind"] == "biography" else "definition"
    questions = GRAMMARS[language].who if kind == "person" else GRAMMARS[language].what
    copulas = "|".join(questions)
    article = rf"(?P<article>(?:{GRAMMARS[language].articles}) |l['’])"
    answer = _first_sentence(document["text"])
    found = re.match(rf"(?P<subject>{article}?{WORD}(?: {WORD}){{0,4}}?) (?P<copula>{copulas}) ", answer, re.IGNORECASE)
    if found and len(answer) in ANSWER_LEN:
        subject, rest = found["subject"], document["text"][found.end() :]
        lowered = subject[0].lower() + subject[1:]
        is_common = found["article"] or re.search(rf"\b{re.escape(lowered)}\b", rest)  # a noun, not a name
        asked = lowered if is_common else subject
        question = questions[found["copula"].lower()].format(asked)
        if language == "fr":
            question = re.sub("que (?=[aeiouéèêâîôh])", "qu’", question, count=1, flags=re.IGNORECASE)
        yield Pair(question, answer, kind, f"{re.escape(subject)} ({copulas}) ")


def docstrings(document: Document) -> Iterator[Pair]:
    """What each public function of a Python file says it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old modules hold escapes that new Pythons warn of
            tree = ast.parse(document["text"])
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            sentence = _first_sentence((ast.get_docstring(node) or "").split("\n\n")[0])
            if order := ORDER.match(sentence):
                answer = f"{node.name} {order['verb'].lower()}s {sentence[order.end() :]}"
                if len(answer) in ANSWER_LEN:
                    opening = rf"{re.escape(node.name)} [a-z]+s "
                    yield Pair(f"What does {node.name} do?", answer, "docstring", opening)


def _first_sentence(text: str) -> str:
    """On one line; empty when the text has no end of a sentence."""
    found = SENTENCE.match(text)
    return " ".join(found[0].split()) if found else ""


def arithmetic(part: str, held_out: float) -> list[Pair]:
    """The problems of the `train` or the `held_out` part: adding or taking away one digit, within 100."""
    pairs = []
    for b in range(1, 10):
        for a in range(b, MAX_TERM + 1 - b):
            c = a + b
            if is_held_out(f"{a} {b} {c}", held_out) == (part == "held_out"):
                problems = {f"{a} + {b}": c, f"{b} + {a}": c, f"{c} - {b}": a} | ({f"{c} - {a}": b} if a < 10 else {})
                for problem, result in problems.items():
                    answer = f"{problem} = {result}."
                    pairs.append(Pair(f"What is {problem}?", answer, "arithmetic", re.escape(f"{problem} = ")))
    return pairs


def arithmetic_text(problems: Sequence[Pair], num_lines: int, seed: int) -> Iterator[Document]:
    """Lines of `problems`, drawn at random, as documents to pretrain on."""
    draw = random.Random(seed)
    for number in range(-(-num_lines // LINES)):
        text = "\n".join(problem.answer for problem in draw.choices(problems, k=LINES))
        yield Document(text=text, source=f"arithmetic:{number}", lang="en", licence="CC0-1.0", kind="arithmetic")
