import pytest

from qianwen.align.languages import is_in_language
from qianwen.align.plain_answers import plain_answers
from qianwen.align.sentences import sentences


@pytest.mark.parametrize("language", ["en", "zh"])
def test_answers_have_four_sentences_without_digits_in_their_language(language):
    rows = plain_answers(language)
    assert len(rows) == len({row.question for row in rows}) == 30
    for row in rows:
        assert len(row.sentences) == 4 and all(sentences(each) == [each] for each in row.sentences)
        assert not any(character.isdigit() for each in row.sentences for character in each)
        assert all(is_in_language(each, language) for each in (row.question, *row.sentences))
