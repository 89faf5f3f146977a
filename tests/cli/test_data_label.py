"""`qianwen data label`: the page of a real process, and the export without one."""

import os
import signal
import subprocess
import sys

import httpx

from qianwen.cli import main
from qianwen.runtime.files import read_jsonl, write_jsonl


def test_marks_of_a_killed_process_are_exported(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"instruction": f"question {n}", "output": f"answer {n}"} for n in range(3)])
    command = [sys.executable, "-m", "qianwen", "data", "label", str(path), "--port", "0"]
    environment = {**os.environ, "QIANWEN_LANG": "en", "COLUMNS": "300"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as job:
        line = job.stdout.readline()
        url = line.split()[2].rstrip(";")
        with httpx.Client(base_url=url, trust_env=False) as client:
            document = client.get("/?row=1").text
            key = document.split('name="key" value="')[1].split('"')[0]
            data = {"row": "1", "key": key, "action": "keep", "text-1": "edited"}
            assert client.post("/save", data=data).status_code == 303
        job.send_signal(signal.SIGKILL)
    assert main(["data", "label", str(path), "--export"]) == 0
    assert [row["messages"][1]["content"] for row in read_jsonl(f"{path}.sft.jsonl")] == ["edited"]
    assert "1  " in capsys.readouterr().out


def test_a_file_without_rows_is_an_error(tmp_path, capsys):
    assert main(["data", "label", str(tmp_path / "none.jsonl"), "--export"]) == 1
    assert "no such file" in capsys.readouterr().err
