import pytest

from qianwen.chat import collect
from qianwen.chat.thoughts import ThoughtReader

REPLIES = [
    ("<think>\nhm\n</think>\n\nyes", False, ("hm", "yes")),
    ("<think>hm</think>yes\n", False, ("hm", "yes\n")),
    ("\n<think>\n\n</think>\n\nyes", False, ("", "yes")),
    ("hm\n</think>\n\nyes", True, ("hm", "yes")),
    ("a\n\nb  c\n</think>\n x\n\ny", True, ("a\n\nb  c", "x\n\ny")),
    ("<think>cut off", False, ("cut off", "")),
    ("cut off\n", True, ("cut off", "")),
    (" no thoughts\n", False, ("", " no thoughts\n")),
    ("say <think> aloud </think>", False, ("", "say <think> aloud </think>")),
    ("<think>a < b </thin k></think>c</think>", False, ("a < b </thin k>", "c</think>")),
    ("<thin", False, ("", "<thin")),
    ("", False, ("", "")),
    ("</think>yes", True, ("", "yes")),
]


@pytest.mark.parametrize(("reply", "is_open", "want"), REPLIES)
def test_thoughts_are_read_at_any_split(reply, is_open, want):
    splits = [[reply], list(reply), *([reply[:cut], reply[cut:]] for cut in range(len(reply)))]
    for pieces in splits:
        reader = ThoughtReader(is_open)
        message = collect([delta for piece in pieces for delta in reader.feed(piece)] + reader.finish())
        assert (message.reasoning_content, message.text) == want


def test_thoughts_stream():
    reader = ThoughtReader(is_open=True)
    sent = ["".join(delta.reasoning for delta in reader.feed(piece)) for piece in ("one ", "two", "</", "think>")]
    assert sent == ["one", " two", "", ""]
