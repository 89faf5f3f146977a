"""Questions and answers that a corpus holds without saying so: supervised data nobody had to write.

    definition   "Bread is a staple food."           → What is bread?            It is a staple food.
    person       "Ada Lovelace was an English …"     → Who was Ada Lovelace?     An English …
    docstring    def dedent(…): "Remove any …"       → What does dedent do?      It removes any …
    arithmetic   generated: sums of two digits each  → What is 23 + 45?          68.

Every answer opens as all of its kind do, so whether a model learned the form can be told without judging its facts. A
pair goes where its document went, to the learning or to the held-out part. Arithmetic is divided by its facts: 23 + 45
and 45 + 23 go to one side, so no held-out problem is a learned one turned round.

What this leaves out: whether an answer is true. A sentence is taken at its word.
"""

import ast
import random
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from qianwen.data.curate.corpus import is_held_out
from qianwen.data.documents.document import Document

SENTENCE = re.compile(r".*?[.!?。](?=\s+[\"“«¿¡]?[A-ZÀ-Þ]|\s*$)", re.S)
ANSWER_LEN = range(30, 181)  # characters
WORD = r"[^\s,;:()\[\]«»\"“”]+"


class Grammar(NamedTuple):
    """How a language says that something is something, asks for it, and answers."""

    articles: str
    what: dict[str, tuple[str, str]]  # copula → question, opening of the answer
    who: dict[str, tuple[str, str]]  # the answer opens with an article, which keeps the sentence's


def _forms(pattern: str, *forms: str) -> dict[str, tuple[str, str]]:
    """`is=is/It is` fills the pattern's verb: copula of the sentence → question and opening of its answer."""
    split = (re.split("[=/]", form) for form in forms)
    return {copula: (pattern.format(verb), opening) for copula, verb, opening in split}


GRAMMARS = {
    "en": Grammar(
        articles="the|a|an",
        what=_forms("What {} {{}}?", "is=is/It is", "was=was/It was", "are=are/They are", "were=were/They were"),
        who=_forms("Who {} {{}}?", "is=is/", "was=was/", "are=are/", "were=were/"),
    ),
    "fr": Grammar(
        articles="les?|la|une?|des",
        what=_forms("Qu’est-ce que {{}} ?", "est=/C’est", "était=/C’était", "sont=/Ce sont", "étaient=/C’étaient"),
        who=_forms("Qui {} {{}} ?", "est=est/", "était=était/", "sont=sont/", "étaient=étaient/"),
    ),
    "es": Grammar(
        articles="el|la|los|las|una?",
        what=_forms("¿Qué {} {{}}?", "es=es/Es", "era=era/Era", "fue=fue/Fue", "son=son/Son", "eran=eran/Eran"),
        who=_forms("¿Quién {} {{}}?", "es=es/", "era=era/", "fue=fue/"),
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
    grammar = GRAMMARS[language]
    kind = "person" if document["kind"] == "biography" else "definition"
    forms = grammar.who if kind == "person" else grammar.what
    article = rf"(?P<article>(?:{grammar.articles}) |l['’])"
    subject = rf"(?P<subject>{article}?{WORD}(?: {WORD}){{0,4}}?)"
    sentence = _first_sentence(document["text"])
    found = re.match(rf"{subject} (?P<copula>{'|'.join(forms)}) (?P<rest>.+)", sentence, re.IGNORECASE)
    if not found or len(sentence) not in ANSWER_LEN:
        return
    subject, rest = found["subject"], found["rest"]
    lowered = subject[0].lower() + subject[1:]
    is_common = found["article"] or re.search(rf"\b{re.escape(lowered)}\b", document["text"][found.start("rest") :])
    question, opening = forms[found["copula"].lower()]
    question = question.format(lowered if is_common else subject)  # a noun, or a name
    if language == "fr":
        question = re.sub("que (?=[aeiouéèêâîôh])", "qu’", question, count=1, flags=re.IGNORECASE)
    if kind == "definition":
        openings = "|".join(opening for _, opening in forms.values())
        yield Pair(question, f"{opening} {rest}", kind, f"(?:{openings}) ")
    elif re.match(rf"(?:{grammar.articles})\b", rest):
        articles = "|".join(sorted({article.capitalize() for article in grammar.articles.split("|")}))
        yield Pair(question, rest[0].upper() + rest[1:], kind, rf"(?:{articles})\b")


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
                answer = f"It {order['verb'].lower()}s {sentence[order.end() :]}"
                if len(answer) in ANSWER_LEN:
                    yield Pair(f"What does {node.name} do?", answer, "docstring", "It [a-z]+s ")


def _first_sentence(text: str) -> str:
    """On one line; empty when the text has no end of a sentence."""
    found = SENTENCE.match(text)
    return " ".join(found[0].split()) if found else ""


def arithmetic(part: str, held_out: float) -> list[Pair]:
    """The problems of the `train` or the `held_out` part: sums of two numbers of two digits, nothing carried."""
    pairs = []
    for a in range(10, 90):
        for b in range(a, 100 - a):
            carries = a % 10 + b % 10 > 9
            if not carries and is_held_out(f"{a} {b}", held_out) == (part == "held_out"):
                for problem in dict.fromkeys((f"{a} + {b}", f"{b} + {a}")):
                    pairs.append(Pair(f"What is {problem}?", f"{a + b}.", "arithmetic", r"\d+\."))
    return pairs


def arithmetic_text(problems: Sequence[Pair], num_lines: int, seed: int) -> Iterator[Document]:
    """`num_lines` of `problems`, drawn at random, each a document to pretrain on: every second one asks, one states.

    Alone in its document, a problem's digits stand at fixed places and nothing distracts from them.
    """
    draw = random.Random(seed)
    for number in range(num_lines):
        pair = draw.choice(problems)
        text = f"{pair.question} {pair.answer}" if number % 2 else f"{expression(pair)} = {pair.answer}"
        yield Document(text=text, source=f"arithmetic:{number}", lang="en", licence="CC0-1.0", kind="arithmetic")


def expression(pair: Pair) -> str:
    """`23 + 45`, of a pair of arithmetic."""
    return pair.question.removeprefix("What is ").removesuffix("?")
