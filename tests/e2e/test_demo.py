"""`qianwen demo` as a user meets it: the transcript, the report, an interruption, a folder of one's own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
QIANWEN = [sys.executable, "-m", "qianwen"]
HEADINGS = ["Text", "Vocabulary", "Pretraining", "What the pretrained model knows", "Supervised fine-tuning"]


def test_the_transcript_tells_every_stage(shell, tmp_path: Path) -> None:
    said = shell(["qianwen", "demo", "--quick"], tmp_path)
    for number, heading in enumerate(HEADINGS, start=1):
        assert f"{number}/7  {heading}" in said
    assert re.search(r"xz -9\s+\d\.\d", said) and "held_out.txt" in said and "next: qianwen chat" in said
    page = (tmp_path / "runs" / "demo" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 3 and "<script" not in page

    again = time.monotonic()
    assert "What is" in shell(["qianwen", "demo", "--quick"], tmp_path)
    assert time.monotonic() - again < 60
    listed = shell(["qianwen", "runs"], tmp_path)
    assert {"demo", "demo/pretrain", "demo/sft"} <= set(listed.split())
    asked = subprocess.run(
        [*QIANWEN, "chat"], cwd=tmp_path, input="What is 2 + 2?\n", capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip()


def test_interrupted_anywhere_the_same_command_goes_on(shell, tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("QIANWEN_RUNS", "OMP_"))}
    for seconds in (4, 8, 12):
        demo = subprocess.Popen([*QIANWEN, "demo", "--quick"], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL)
        time.sleep(seconds)
        demo.send_signal(signal.SIGKILL if seconds == 8 else signal.SIGINT)
        demo.wait(timeout=60)
    shell(["qianwen", "demo", "--quick"], tmp_path)
    record = json.loads((tmp_path / "runs" / "demo" / "run.json").read_text())
    assert record["state"] == "finished"
    assert not [path for path in (tmp_path / "runs").rglob("*.tmp")]


def test_a_folder_of_ones_own(shell, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    for i in range(120):
        (tmp_path / "notes" / f"{i}.md").write_text(f"Note{i} is a short note about the number {i}.\n\nNothing more.")
    (tmp_path / "notes" / "bad.txt").write_bytes(b"\xff\xfe\x00")
    said = shell(["qianwen", "demo", "--quick", "--data", "notes"], tmp_path)
    assert "binary data" in said
    questions = (tmp_path / "runs" / "demo" / "text" / "dialogues" / "held_out.jsonl").read_text()
    assert "What is Note" in questions
