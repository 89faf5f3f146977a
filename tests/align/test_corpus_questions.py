"""What is asked of a text, what must not be, and that nothing held out is learned."""

import re

import pytest

from qianwen.align.corpus_questions import arithmetic, arithmetic_text, definitions, docstrings, expression, pairs_of
from qianwen.data.documents.document import Document


def document(text: str, lang: str = "en", kind: str = "encyclopedia") -> Document:
    return Document(text=text, source="test", lang=lang, licence="x", kind=kind)


@pytest.mark.parametrize(
    ("lang", "kind", "text", "question"),
    [
        ("en", "encyclopedia", "Bread is a staple food prepared from flour. Most bread is baked.", "What is bread?"),
        ("en", "encyclopedia", "Accra is the capital of Ghana in Africa. Accra is large.", "What is Accra?"),
        ("en", "encyclopedia", "The Eiffel Tower is a tower in Paris, France.", "What is the Eiffel Tower?"),
        ("en", "encyclopedia", "The Alans were an ancient nomadic people.", "What were the Alans?"),
        ("en", "biography", "Ada Lovelace was an English mathematician.", "Who was Ada Lovelace?"),
        ("fr", "encyclopedia", "Le bois est un matériau naturel d'origine végétale.", "Qu’est-ce que le bois ?"),
        ("fr", "encyclopedia", "Une cloche est un instrument fait de métal.", "Qu’est-ce qu’une cloche ?"),
        ("fr", "encyclopedia", "L'abeille est un insecte volant et social.", "Qu’est-ce que l'abeille ?"),
        ("fr", "biography", "Brigitte Bardot est une actrice française.", "Qui est Brigitte Bardot ?"),
        ("es", "encyclopedia", "El pan es un alimento básico de muchos.", "¿Qué es el pan?"),
        ("es", "biography", "Ada Lovelace fue una matemática inglesa.", "¿Quién fue Ada Lovelace?"),
    ],
)
def test_first_sentences_become_questions(lang: str, kind: str, text: str, question: str) -> None:
    (pair,) = definitions(document(text, lang, kind))
    assert pair.question == question
    assert re.match(pair.opening, pair.answer)
    said = pair.answer.split(" ", 2)[-1]  # behind "It is", "Ce sont", "An English"
    assert said in text and said.endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        "Bread, a food, is baked.",  # what is named is not what is defined
        "In 1905 he wrote four papers that changed physics.",
        "Bread is old.",  # too short to answer anything
        "Bread is " + "very " * 60 + "old.",  # too long to be learned
        "Bread is a staple food without an end",
        "",
    ],
)
def test_other_sentences_do_not(text: str) -> None:
    assert not list(definitions(document(text)))


def test_an_opening_fits_the_answers_of_its_kind_and_no_others() -> None:
    definition, person = pairs_of(
        [document("Rust is a language for systems."), document("Ann Lee was an English actress.", kind="biography")]
    )
    assert (definition.answer, person.answer) == ("It is a language for systems.", "An English actress.")
    assert re.match(definition.opening, "They were old cars.") and not re.match(definition.opening, person.answer)
    assert re.match(person.opening, "The last king.") and not re.match(person.opening, "Another king.")


CODE = '''
def dedent(text):
    """Remove any common leading whitespace
    from every line in `text`.

    More about it."""

class Thing:
    def size(self):
        """Returns the number of bytes in it, always."""
    def _hidden(self):
        """Return what nobody should ask about it."""
    def noun(self):
        """The name of the thing that this is."""
'''


def test_docstrings_become_answers_in_the_third_person() -> None:
    pairs = list(docstrings(document(CODE, kind="code")))
    assert [(pair.question, pair.answer) for pair in pairs] == [
        ("What does dedent do?", "It removes any common leading whitespace from every line in `text`."),
        ("What does size do?", "It returns the number of bytes in it, always."),
    ]
    assert all(re.match(pair.opening, pair.answer) for pair in pairs)
    assert not list(docstrings(document("def broken(:", kind="code")))


def test_the_same_question_is_asked_once() -> None:
    pairs = list(pairs_of([document(CODE, kind="code"), document(CODE, kind="code")]))
    assert len(pairs) == 2


def test_arithmetic_is_true_and_divided_by_facts() -> None:
    train, held_out = arithmetic("train", 0.1), arithmetic("held_out", 0.1)
    assert 0.05 < len(held_out) / (len(train) + len(held_out)) < 0.15
    facts: dict[str, set[frozenset[int]]] = {"train": set(), "held_out": set()}
    for part, pairs in (("train", train), ("held_out", held_out)):
        for pair in pairs:
            a, b = re.fullmatch(r"What is (\d\d) \+ (\d\d)\?", pair.question).groups()  # type: ignore[union-attr]
            (c,) = re.fullmatch(r"(\d\d)\.", pair.answer).groups()  # type: ignore[union-attr]
            assert re.match(pair.opening, pair.answer)
            assert int(c) == int(a) + int(b) and int(a[1]) + int(b[1]) < 10
            facts[part].add(frozenset((int(a), int(b))))
    assert len(train) + len(held_out) == len({pair.question for pair in train + held_out})
    assert not facts["train"] & facts["held_out"]


def test_arithmetic_text_holds_only_what_may_be_learned() -> None:
    problems = arithmetic("train", 0.1)
    text = list(arithmetic_text(problems, 100, seed=1))
    stated = {f"{expression(pair)} = {pair.answer}" for pair in problems}
    asked = {f"{pair.question} {pair.answer}" for pair in problems}
    lines = [one["text"] for one in text]
    assert len(lines) == 100 and set(lines[::2]) <= stated and set(lines[1::2]) <= asked
    assert text == list(arithmetic_text(problems, 100, seed=1)) != list(arithmetic_text(problems, 100, seed=2))
