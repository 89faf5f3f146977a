"""Questions and answers derived from a corpus: training data that needs no annotator.

    definition   "Bread is a staple food."           → What is bread?            It is a staple food.
    person       "Ada Lovelace was an English …"     → Who was Ada Lovelace?     An English …
    docstring    def dedent(…): "Remove any …"       → What does dedent do?      It removes any …
    arithmetic   generated: sums of two digits each  → What is 23 + 45?          68.

All answers of a kind begin in the same way, so a program can check whether a model learned the form. A pair is in the
part of its document, training or held out. Arithmetic is divided by the sum: 23 + 45 and 45 + 23 are in the same part,
so that no held-out problem is a training problem with the numbers exchanged.

Not here: whether an answer is true.
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
    """The words with which a language defines a thing, asks for the definition, and answers."""

    articles: str
    what: dict[str, tuple[str, str]]  # copula → question, beginning of the answer
    who: dict[str, tuple[str, str]]  # the same for persons; the answer begins with the article of the sentence


def _forms(pattern: str, *forms: str) -> dict[str, tuple[str, str]]:
    """`is=is/It is` means copula=verb of the question/beginning of the answer; the verb is put into `pattern`."""
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
# Docstrings are imperatives ("Remove …"); answers are statements ("It removes …").
ORDER = re.compile(
    r"(?P<verb>Add|Append|Apply|Call|Change|Check|Clear|Close|Compare|Compile|Compute|Configure|Connect|Construct|Convert"
    r"|Create|Decode|Delete|Determine|Display|Emit|Encode|Ensure|Execute|Extract|Fill|Find|Format|Generate|Get|Handle"
    r"|Insert|Install|Invoke|Iterate|Load|Log|Make|Mark|Move|Normalize|Open|Parse|Perform|Print|Produce|Put|Raise|Read"
    r"|Receive|Register|Release|Remove|Replace|Reset|Resolve|Retrieve|Return|Run|Send|Set|Show|Split|Start|Stop|Store"
    r"|Translate|Turn|Update|Use|Wait|Wrap|Write)s? "
)


class Pair(NamedTuple):
    """A question, its answer, their kind, and `opening`: the pattern with which a correct answer begins."""

    question: str
    answer: str
    kind: str
    opening: str

    def row(self) -> dict[str, Any]:
        """The record of a dialogue file that `qianwen sft` reads."""
        messages = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        return {"messages": messages, "kind": self.kind, "opening": self.opening}


def pairs_of(documents: Iterable[Document]) -> Iterator[Pair]:
    """All pairs of the documents; of pairs with the same question only the first."""
    questions: set[str] = set()
    for document in documents:
        for pair in docstrings(document) if document["kind"] == "code" else definitions(document):
            if pair.question not in questions:
                questions.add(pair.question)
                yield pair


def definitions(document: Document) -> Iterator[Pair]:
    """The pair of a document whose first sentence is a definition."""
    language = document["lang"] if document["lang"] in GRAMMARS else "en"
    grammar = GRAMMARS[language]
    kind = "person" if document["kind"] == "biography" else "definition"
    forms = grammar.who if kind == "person" else grammar.what
    article = rf"(?P<article>(?:{grammar.articles}) |l['’])"
    subject = rf"(?P<subject>{article}?{WORD}(?: {WORD}){{0,4}}?)"
    sentence = _first_sentence(document["text"])
    match = re.match(rf"{subject} (?P<copula>{'|'.join(forms)}) (?P<rest>.+)", sentence, re.IGNORECASE)
    if not match or len(sentence) not in ANSWER_LEN:
        return
    subject, rest = match["subject"], match["rest"]
    lowered = subject[0].lower() + subject[1:]
    # A common noun has an article, or is written in lower case later in the text; a name keeps its capital.
    is_common = match["article"] or re.search(rf"\b{re.escape(lowered)}\b", document["text"][match.start("rest") :])
    question, opening = forms[match["copula"].lower()]
    question = question.format(lowered if is_common else subject)
    if language == "fr":
        question = re.sub("que (?=[aeiouéèêâîôh])", "qu’", question, count=1, flags=re.IGNORECASE)
    if kind == "definition":
        openings = "|".join(opening for _, opening in forms.values())
        yield Pair(question, f"{opening} {rest}", kind, f"(?:{openings}) ")
    elif re.match(rf"(?:{grammar.articles})\b", rest):
        articles = "|".join(sorted({article.capitalize() for article in grammar.articles.split("|")}))
        yield Pair(question, rest[0].upper() + rest[1:], kind, rf"(?:{articles})\b")


def docstrings(document: Document) -> Iterator[Pair]:
    """A pair for each public function of a Python file that has a docstring in the imperative."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # new versions of Python warn of escapes in old modules
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
    """The sentence on one line; empty if the text has no end of a sentence."""
    match = SENTENCE.match(text)
    return " ".join(match[0].split()) if match else ""


def arithmetic(part: str, held_out: float) -> list[Pair]:
    """The problems of the part `train` or `held_out`: sums of two numbers with two digits, without a carry."""
    pairs = []
    for a in range(10, 90):
        for b in range(a, 100 - a):
            carries = a % 10 + b % 10 > 9
            if not carries and is_held_out(f"{a} {b}", held_out) == (part == "held_out"):
                for problem in dict.fromkeys((f"{a} + {b}", f"{b} + {a}")):
                    pairs.append(Pair(f"What is {problem}?", f"{a + b}.", "arithmetic", r"\d+\."))
    return pairs


def arithmetic_text(problems: Sequence[Pair], num_lines: int, seed: int) -> Iterator[Document]:
    """`num_lines` random `problems` as documents for pretraining: questions and equations in turn.

    Each problem is a document of its own, so that its digits are always at the same positions.
    """
    draw = random.Random(seed)
    for number in range(num_lines):
        pair = draw.choice(problems)
        text = f"{pair.question} {pair.answer}" if number % 2 else f"{expression(pair)} = {pair.answer}"
        yield Document(text=text, source=f"arithmetic:{number}", lang="en", licence="CC0-1.0", kind="arithmetic")


def expression(pair: Pair) -> str:
    """The sum of an arithmetic pair, such as `23 + 45`."""
    return pair.question.removeprefix("What is ").removesuffix("?")
