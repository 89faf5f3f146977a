from qianwen.cli import main


def test_a_model_that_knows_nothing_gives_no_tool_and_the_error_says_where_its_replies_are(
    model_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    monkeypatch.setattr("qianwen.align.self_instruct.stages.LONGEST", {"tool": 4})
    monkeypatch.setattr("qianwen.align.self_instruct.stages.TOOL_SCHEMA", None)
    monkeypatch.setattr(
        "qianwen.align.self_instruct.stages.texts", lambda _: {"areas": ["a"], "prompts": {"tool": "{area}"}}
    )
    command = ["data", "self-instruct", str(model_folder), "--tools", "2"]
    assert main(command) == 1
    error = capsys.readouterr().err.replace("\n", "")
    assert "no tool was accepted" in error and "tools.jsonl" in error
    assert (tmp_path / "self-instruct" / "tools.jsonl").read_text().count("\n") == 2


def test_it_says_what_it_cannot_do(capsys):
    assert main(["data", "self-instruct", "m", "--questions", "0"]) == 1
    assert "at least 1" in capsys.readouterr().err
