import pytest

from qianwen.agents.observations import cut
from qianwen.agents.tool import Observation


def test_a_short_result_stays_as_it_is(tmp_path):
    observation = Observation("x" * 300, is_error=True)
    assert cut(observation, 300, tmp_path / "all.txt") is observation and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["0123456789" * 100, "好" * 1000, "a\ud800" * 500])
def test_a_long_result_keeps_start_and_end_and_says_what_is_missing(tmp_path, text):
    path = tmp_path / "all.txt"
    short = cut(Observation(text, is_error=True), 400, path)
    start, line, end = short.text.split("\n")
    assert (start, end) == (text[:300], text[900:]) and short.is_error and short.files == (path,)
    assert line == "[600 of 1,000 characters are left out here. The whole text is in the file all.txt.]"
    assert path.read_text().startswith(text[:1]) and len(path.read_text()) >= 1000
