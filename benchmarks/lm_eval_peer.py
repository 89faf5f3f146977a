"""lm-eval with transformers as a process of its own, for `eval_vs_lm_eval.py`.

Its tasks are of its own kinds, `multiple_choice` and `generate_until`, over the prompts that our tasks wrote. So both
sides read the same text, and only the computation differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers import peer_path

DONE = "=== done ==="
BATCH = {"choices": 1, "texts": 8}  # a batch of long prompts only adds padding; texts are generated together
CHOICES = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: target
target_delimiter: ""
"""
TEXTS = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: context
doc_to_target: ""
generation_kwargs: {{until: {until}, max_gen_toks: {max_tokens}, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


class Peer:
    """The process. Folder `home` has the weights as Hugging Face writes them, and gets tasks and answers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "tasks").mkdir()
        hidden = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "cache"), "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [peer_path("lm-eval"), __file__, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "errors.txt").open("w"),
            text=True,
            env=os.environ | hidden,
        )

    def write_choices(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """A task of `rows` with context, choices, and target (the index of the right one)."""
        self._write(name, CHOICES, rows)

    def write_texts(self, name: str, rows: Sequence[dict[str, Any]], stop: Sequence[str], max_tokens: int) -> None:
        """A task of `rows` with context; the answer ends at a text of `stop`."""
        self._write(name, TEXTS, rows, until=json.dumps(list(stop)), max_tokens=max_tokens)

    def _write(self, name: str, template: str, rows: Sequence[dict[str, Any]], **fields: Any) -> None:
        data = self.home / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = template.format(name=name, data=json.dumps(str(data)), **fields)
        (self.home / "tasks" / f"{name}.yaml").write_text(text)

    def run(self, name: str, kind: str, dtype: str, limit: int = 0) -> dict[str, Any]:
        """`seconds` without loading the weights, and for each row the log-probabilities or the text."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"name": name, "kind": kind, "dtype": dtype, "limit": limit}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.strip() == DONE:
                return json.loads((self.home / "answer.json").read_text())
        sys.exit("lm-eval failed:\n" + (self.home / "errors.txt").read_text()[-3000:])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


# ---- in the peer's Python -------------------------------------------------------------------------------------------


def serve(home: Path) -> None:
    """Answer requests from standard input, one a line; the weights are loaded once for each dtype."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict

    dtype, model = "", None
    for line in sys.stdin:
        request = json.loads(line)
        if request["dtype"] != dtype:
            dtype, model = request["dtype"], None  # the old weights are freed before the new ones are read
            model = HFLM(pretrained=str(home / "weights"), dtype=dtype, device="cpu", batch_size=1)
        assert model is not None
        model.batch_size_per_gpu = BATCH[request["kind"]]
        manager = TaskManager(include_path=str(home / "tasks"), include_defaults=False)
        tasks = get_task_dict([request["name"]], manager)
        began = time.perf_counter()
        found = evaluate(lm=model, task_dict=tasks, limit=request["limit"] or None, bootstrap_iters=0, log_samples=True)
        seconds = time.perf_counter() - began
        assert found is not None
        rows = sorted(found["samples"][request["name"]], key=lambda row: row["doc_id"])
        answers = [_answer(row["resps"], request["kind"]) for row in rows]
        (home / "answer.json").write_text(json.dumps({"seconds": seconds, "answers": answers}))
        print(DONE, flush=True)


def _answer(responses: Sequence[Any], kind: str) -> Any:
    return [float(response[0][0]) for response in responses] if kind == "choices" else responses[0][0]


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
