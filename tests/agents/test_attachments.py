import pytest

from qianwen.agents.attachments import attach, with_files
from qianwen.runtime.errors import ConfigError


def test_files_are_copied_and_a_name_that_is_taken_gets_a_number(tmp_path):
    inside, first, second = (tmp_path / name for name in ("files", "a", "b"))
    for folder in (inside, first, second):
        folder.mkdir()
        (folder / "x.csv").write_text(folder.name)
    (first / ".env").write_text("hidden")
    assert attach([first / "x.csv", second / "x.csv", first / ".env"], inside) == ["x-2.csv", "x-3.csv", "env"]
    assert [(inside / name).read_text() for name in ("x.csv", "x-2.csv", "x-3.csv")] == ["files", "a", "b"]


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match="no file"):
            attach([path], tmp_path)


def test_the_question_names_its_files():
    assert with_files("Plot it.", ["a.csv", "b.csv"]) == "[Upload file a.csv, b.csv]\nPlot it."
    assert with_files("画图", ["a.csv"]) == "[上传文件a.csv]\n画图"
    assert with_files("Plot it.", []) == "Plot it."
