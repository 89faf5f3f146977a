"""Exact duplicates after normalisation."""

from qianwen.data.dedup import fingerprint, without_duplicates
from qianwen.data.readers import Document, Rejected


def document(text: str, source: str) -> Document:
    return Document(text=text, source=source, lang="en", licence="x", kind="text")


def test_case_spacing_and_unicode_form_do_not_tell_texts_apart() -> None:
    assert fingerprint("Ａ  caf\u00e9\n") == fingerprint("a cafe\u0301")
    assert fingerprint("a b") != fingerprint("ab")


def test_the_first_stays_and_the_others_name_it() -> None:
    unreadable = Rejected("z", 1, "torn")
    found = list(without_duplicates([document("One", "a"), unreadable, document("two", "b"), document(" one ", "c")]))
    assert [item["source"] for item in found if not isinstance(item, Rejected)] == ["a", "b"]
    assert found[1] is unreadable and found[3] == Rejected("c", 0, "duplicate", "a")
