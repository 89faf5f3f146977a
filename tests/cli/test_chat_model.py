import pytest

from qianwen.chat.messages import Message
from qianwen.chat.model import collect
from qianwen.cli.chat_model import opened_chat_model
from qianwen.runtime.errors import ConfigError


def test_a_model_that_runs_here_answers(model_folder):
    with opened_chat_model(str(model_folder), "", 2) as model:
        assert collect(model.chat([Message("user", "hi")], max_tokens=4)).role == "assistant"


def test_what_is_no_address_is_an_error_before_the_first_question():
    with pytest.raises(ConfigError), opened_chat_model("m", "ftp://example.org", 2):
        pass
