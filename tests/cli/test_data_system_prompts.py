from qianwen.align.dialogues import read_dialogues
from qianwen.cli import main


def test_dialogues_of_six_turns_are_written(tmp_path, capsys):
    assert main(["data", "system-prompts", str(tmp_path / "obey.jsonl"), "--count", "12"]) == 0
    dialogues = list(read_dialogues(tmp_path / "obey.jsonl"))
    assert len(dialogues) == 12 and all(len(dialogue.messages) == 13 for dialogue in dialogues)
    assert "obey.jsonl" in capsys.readouterr().out.replace("\n", "")


def test_a_model_whose_context_is_too_short_is_an_error_and_no_half_file(model_folder, tmp_path, capsys):
    asked = tmp_path / "asked.jsonl"
    assert main(["data", "system-prompts", str(asked), "--count", "1", "--model", str(model_folder)]) == 1
    assert "tokens" in capsys.readouterr().err and asked.read_text() == ""


def test_it_says_what_it_cannot_do(model_folder, capsys):
    assert main(["data", "system-prompts", "o.jsonl", "--count", "0"]) == 1
    assert main(["data", "system-prompts", "o.jsonl", "--url", "http://127.0.0.1:9/v1"]) == 1
    assert main(["data", "system-prompts", "o.jsonl.zst", "--model", str(model_folder)]) == 1
    assert "must end in .jsonl" in capsys.readouterr().err.replace("\n", " ")
