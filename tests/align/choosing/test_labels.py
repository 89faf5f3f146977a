import json

import pytest

from qianwen.align.choosing.labels import Label, LabelFile
from qianwen.align.dialogues import read_dialogues
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_jsonl, write_jsonl

ROWS = [
    {"instruction": "Say a", "output": "a"},
    {"instruction": "Say b", "output": "", "history": [["hi", "hello"]]},
    {"prompt": "Say c", "chosen": "c", "rejected": "d"},
    {"instruction": "Say a", "output": "a"},
    {"unknown": 1},
    {
        "messages": [
            {"role": "user", "content": "w"},
            {"role": "function_call", "content": '{"name": "f", "arguments": {}}'},
        ]
    },
]


@pytest.fixture
def path(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    return tmp_path / "rows.jsonl"


def test_labels_are_read_again_after_a_kill_and_stay_with_their_rows(path):
    labels = LabelFile(path)
    assert len(labels.rows) == 5 and labels.num_unusable == 1 and labels.rows[1].checks == ["empty"]
    labels.save(labels.rows[0], Label(mark="keep"))
    labels.save(labels.rows[0], Label(mark="drop", note="中文", texts={1: "A"}))
    labels.save(labels.rows[4], Label(mark="flag"))
    with labels.labels_path.open("a") as file:
        file.write('{"key": "half a li')
    write_jsonl(path, [{"instruction": "new", "output": "row"}, *ROWS])
    again = LabelFile(path)
    assert [row.label.mark for row in again.rows] == ["", "drop", "", "", "", "flag"]
    assert again.rows[1].label == Label(mark="drop", note="中文", texts={1: "A"})


def test_edits_are_checked_and_exported_and_the_file_is_unchanged(path):
    before, labels = path.read_bytes(), LabelFile(path)
    labels.save(labels.rows[0], Label(mark="keep", ability="writing"))
    labels.save(labels.rows[1], Label(mark="keep", texts={3: "b"}))
    assert labels.rows[1].checks == []
    labels.save(labels.rows[2], Label(preference="rejected"))
    labels.save(labels.rows[3], Label(mark="drop", texts={1: "x"}))
    sft, preferences = labels.export()
    dialogues = list(read_dialogues(sft))
    assert [each.messages[-1].text for each in dialogues] == ["a", "b"] and dialogues[0].ability == "writing"
    pairs = [[row[side][-1]["content"] for side in ("prompt", "chosen", "rejected")] for row in read_jsonl(preferences)]
    assert pairs == [["Say b", "b", ""], ["Say c", "d", "c"]]
    assert path.read_bytes() == before
    assert LabelFile(path).export() == {sft: 2, preferences: 2}


def test_files_without_rows_are_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "plain"}) + "\n")
    for name, reason in (("x.jsonl", "no row"), ("none.jsonl", "no such file")):
        with pytest.raises(DataError, match=reason):
            LabelFile(tmp_path / name)
