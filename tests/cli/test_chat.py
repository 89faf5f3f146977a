import json
import os
import signal

import pytest

from qianwen.chat import Message
from qianwen.cli import main
from qianwen.cli.chat import COMMANDS, ChatSession, newest_chat_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import RunFolder

from .conftest import tiny


class Session(ChatSession):
    """Collects what it writes."""

    def __init__(self, **options) -> None:
        self.written: list[str] = []
        llm = LLM(*tiny(), EngineConfig(block_size=16))
        super().__init__(llm, write=self.written.append, sampling={"max_tokens": 12, "seed": 1}, **options)

    def says(self, line: str) -> str:
        self.written.clear()
        assert self.take(line)
        return "".join(self.written)


def test_a_conversation_goes_on():
    session = Session(system="Be brief.")
    session.says("hello")
    session.says("  and then?\n")
    assert [message.role for message in session.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert session.says("   ") == "" and not session.take("/exit")


def test_every_command_answers(tmp_path):
    session = Session()
    first = session.says("hello")
    assert all(usage in session.says("/help") for usage, _, _ in COMMANDS.values())
    assert session.says("/retry") != first and len(session.messages) == 2
    session.says("/reset")
    assert session.messages == [] and "no question" in session.says("/retry")
    session.says("/system Be kind.")
    assert session.messages == [Message("system", "Be kind.")] and "Be kind." in session.says("/system")
    assert "/help" in session.says("/bogus")
    session.says("//slash")
    assert session.messages[1].content == "/slash"
    path = tmp_path / "talk.json"
    session.says(f"/save {path}")
    kept, session.messages = session.messages, []
    session.says("/sampling seed=5")
    session.says(f"/load {path}")
    assert session.messages == kept and session.sampling["seed"] == 1
    path.write_text("[]")
    assert "not a saved conversation" in session.says(f"/load {path}")
    assert "Name a file" in session.says("/save")
    assert "No such file" in session.says("/load /nowhere.json")


def test_sampling_is_shown_set_and_checked():
    session = Session()
    assert "temperature = 0.5" in session.says('/sampling temperature=0.5 stop=\'["a", "b c"]\'')
    assert session.sampling["stop"] == ["a", "b c"]
    before = dict(session.sampling)
    assert "top_p" in session.says("/sampling temperature=1 top_p=7") and session.sampling == before
    assert "did you mean top_p" in session.says("/sampling topp=1")
    assert "name=value" in session.says("/sampling temperature")
    assert "seed = None" in session.says("/seed")


def test_old_turns_are_left_out_with_a_note():
    session = Session()
    for _ in range(4):
        session.says("x" * 120)
    assert "do not fit" in session.says("x" * 120)
    assert len(session.messages) == 10  # nothing is forgotten here, only not sent


def test_a_question_that_does_not_fit_leaves_no_trace():
    session = Session()
    assert "512" in session.says("x" * 600) and session.messages == []


def test_ctrl_c_stops_the_answer_only():
    session = Session()
    session.sampling |= {"max_tokens": 400, "ignore_eos": True}
    plain = session._write

    def write(text: str) -> None:
        plain(text)
        if len(session.written) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    session._write = write
    assert session.says("hello").endswith("[stopped]\n")
    assert session.messages[1].role == "assistant" and len(session.written) < 12
    blocks = session.llm.engine.blocks
    assert blocks.num_free_blocks == blocks.num_blocks
    session._write = plain
    session.sampling["max_tokens"] = 3
    session.says("go on")
    assert len(session.messages) == 4


def test_through_a_pipe(model_folder, monkeypatch, capsys):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n/seed 3\n/exit\nnever asked\n"))
    assert main(["chat", str(model_folder), "--max-tokens", "5", "--seed", "1", "--lines"]) == 0
    out = capsys.readouterr().out
    assert "seed = 3" in out and out.count("\n") == 2 and "\x1b" not in out and "You>" not in out


def test_the_newest_chat_model_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    with pytest.raises(ConfigError, match="qianwen demo"):
        newest_chat_model()
    for name, stage in (("a", "pretrain"), ("b", "sft"), ("c", "reward")):
        run = RunFolder.create(name, stage, {})
        (run.path / "model").mkdir()
        (run.path / "model" / "config.json").write_text(json.dumps({}))
    assert newest_chat_model() == tmp_path / "b" / "model"
