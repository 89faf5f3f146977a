"""Valid files, options and bodies of every kind, and random changes of them (for `test_fuzz.py`)."""

import contextlib
import copy
import io
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qianwen.align.dialogues import read_dialogues
from qianwen.checkpoints.gguf.file import GgufFile, TensorPlan, write_gguf
from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model, open_model
from qianwen.cli import generate, main
from qianwen.cli.chat import ChatSession
from qianwen.data.documents.readers import read_documents
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval.task import TaskOptions
from qianwen.eval.tasks import TASKS
from qianwen.runtime import runs
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import RunFolder, read_rows
from qianwen.serve.protocol import BODIES, parse
from qianwen.serve.responses_protocol import ResponsesRequest

from ..cli.conftest import tiny

DEEP: Any = []
for _ in range(60):
    DEEP = [DEEP]
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", " ",
    "x", "0", "-1", "1e400", "null", "\ud800", "\0", "é" * 300, "../../x", "a" * 5000, [], [None], [[]], [1, "x"], {},
    {"a": 1}, {"": None}, {"type": "x"}, [{}], ["x"], DEEP, {"role": "user", "content": "x"},
]  # fmt: skip


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside a value of JSON."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value: Any, chance: random.Random) -> Any:
    """A copy of a value of JSON with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        path = chance.choice(list(places(value)))
        if not path:
            value = copy.deepcopy(chance.choice(ODD)) if chance.random() < 0.2 else value
            continue
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        old, action = holder[path[-1]], chance.random()
        if action < 0.15:
            del holder[path[-1]]
        elif action < 0.25:
            holder[path[-1]] = [old]
        elif action < 0.3 and isinstance(holder, dict):
            holder[chance.choice(["x", "", "type", "role"])] = holder.pop(path[-1])
        else:
            holder[path[-1]] = copy.deepcopy(chance.choice(ODD))
    return value


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Bytes with some flipped, cut off, doubled or put in."""
    data = bytearray(data)
    for _ in range(chance.choice([1, 1, 3, 20])):
        at = chance.randrange(len(data)) if data else 0
        action = chance.randrange(5)
        if action == 0 and data:
            data[at] ^= 1 << chance.randrange(8)
        elif action == 1:
            del data[at:]
        elif action == 2:
            data[at:at] = data[at : at + chance.randrange(50)]
        elif action == 3:
            data[at:at] = chance.randbytes(chance.randrange(9))
        else:
            data[at : at + 4] = chance.choice([b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"{}[]", b'"\n\r\\'])
    return bytes(data)


KINDS = {
    "dialogues": "dialogues", "rows to answer": "rows", "sampling": "sampling", "request bodies": "bodies",
    "saved conversations": "conversations", "lines": "lines", "documents as JSON": "documents", "text files": "texts",
    "Parquet": "parquet", "WARC": "warc", "config.json": "config", "generation_config.json": "generation",
    "tokenizer.json": "tokenizer", "safetensors": "safetensors", "GGUF metadata": "metadata",
    "GGUF bytes": "gguf_bytes",
    "adapter_config.json": "adapter", "quantize_config.json": "gptq", "run.json": "run_json", "metrics": "metrics",
    "evaluation tasks": "tasks", "options": "options",
}  # fmt: skip


class Said(str):
    """What a person reads."""


def load_gguf(path: Path) -> object:
    model = GgufModel(path)
    return model.vocabulary, model.config, model.load()


def command(argv: list[str]) -> Said:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(argv)
        except SystemExit as error:
            assert error.code in (0, 1, 2)
    return Said(out.getvalue())


class Inputs:
    """The valid examples, and a method for each of KINDS that tries one changed input."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.llm = LLM(*tiny(), EngineConfig(block_size=16, num_blocks=64))
        self.model = folder / "model"
        write_folder(*tiny(), self.model, chat=True)
        network, tokenizer = tiny()
        write_model(network, tokenizer.vocabulary, folder / "model.gguf", type="F32", extra={})
        self.gguf = GgufFile(folder / "model.gguf")
        tensors = self.gguf.tensors
        self.plans = [TensorPlan(name, tensor.type, tensor.shape) for name, tensor in tensors.items()]
        self.tensors = [tensor.dequantize() for tensor in tensors.values()]

    def file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    # ---- records ----

    CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c", "content": "1"}, {"role": "assistant",
                "content": "a"}]  # fmt: skip
    TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
    DIALOGUES = [
        {"messages": MESSAGES, "tools": TOOLS}, {"conversations": [{"from": "human", "value": "q"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}, {"from": "observation", "value": "1"},
        {"from": "gpt", "value": "a"}], "system": "s", "tools": "[]"},
        {"instruction": "i", "input": "x", "output": "o", "history": [["q", "a"]], "system": "s"},
    ]  # fmt: skip
    SAMPLING = {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 1,
    "n": 1,
                "presence_penalty": 0.1, "frequency_penalty": 0.1, "logit_bias": {"5": 1.5}, "logprobs": 2,
                "stop": ["x"], "stop_token_ids": [5], "max_tokens": 4, "ignore_eos": False}  # fmt: skip

    def dialogues(self, chance: random.Random) -> object:
        row = changed(chance.choice(self.DIALOGUES), chance)
        data = json.dumps([row] if chance.random() < 0.2 else row).encode()
        return list(read_dialogues(self.file("dialogues.jsonl", data)))

    def rows(self, chance: random.Random) -> object:
        rows = [{"prompt": "a", "sampling": self.SAMPLING}, {"messages": self.MESSAGES, "sampling": {"seed": 1}}]
        row = changed(chance.choice(rows), chance)
        return None if not isinstance(row, dict) else generate._try_start(self.llm, row)

    def sampling(self, chance: random.Random) -> object:
        sampling = changed(self.SAMPLING, chance)
        if isinstance(sampling, dict):
            self.llm.stream([1, 2], self.llm.params(**sampling)).close()
        return sampling

    CHAT = {"model": "m", "messages": MESSAGES, "tools": TOOLS, "tool_choice": "auto", "stop": ["a"], "stream": True,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
            "logit_bias": {"1": 1}, "stream_options": {"include_usage": True}, "metadata": {"a": "b"}}  # fmt: skip
    RESPONSE = {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "x"}], "instructions": "i",
                "tools": [{"type": "function", "name": "f", "parameters": {}}], "tool_choice": "auto",
                "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}}  # fmt: skip
    REQUESTS = [CHAT, {"model": "m", "prompt": ["a", "b"], "echo": True, "logprobs": 2}, {"model": "m", "input": [[1],
    [2]]},
                {"model": "m", "messages": MESSAGES}]  # fmt: skip

    def bodies(self, chance: random.Random) -> object:
        kinds = [*zip(BODIES, self.REQUESTS, strict=True), (ResponsesRequest, self.RESPONSE)]
        kind, body = chance.choice(kinds)
        data = json.dumps(changed(body, chance)).encode()
        request = parse(flipped(data, chance) if chance.random() < 0.2 else data, kind)
        return request.as_chat() if isinstance(request, ResponsesRequest) else request

    def conversations(self, chance: random.Random) -> object:
        saved = changed({"messages": self.MESSAGES, "sampling": self.SAMPLING}, chance)
        path = self.file("talk.json", json.dumps(saved).encode())
        written: list[str] = []
        session = ChatSession(self.llm, write=written.append)
        session.take(f"/load {path}")
        session.take(f"/sampling {chance.choice(list(self.SAMPLING))}={json.dumps(chance.choice(ODD))}")
        session.take(f"/save {path}")
        return Said("".join(written))

    def lines(self, chance: random.Random) -> object:
        data = flipped(b'{"text": "a"}\n{"text": "b"}\n', chance)
        rows = read_rows(self.file("lines.jsonl", data))
        return Said("\n".join(str(row) for row in rows if isinstance(row, DataError)))

    # ---- documents ----

    def documents(self, chance: random.Random) -> object:
        row = changed({"text": "a text", "id": "1", "url": "http://a.example", "source": "s", "lang": "en",
                       "licence": "MIT", "meta": {"a": [1]}}, chance)  # fmt: skip
        return list(read_documents(self.file("documents.jsonl", json.dumps(row).encode())))

    def texts(self, chance: random.Random) -> object:
        name = chance.choice(["a.txt", "b.md", "c.py", "d.html", "e.txt.gz", "f.jsonl.zst", "g", "h.ndjson"])
        html = "<html><head><meta charset=gbk><title>t</title></head><body><p>Die Straße, 文</p>" + "<div>" * 50
        return list(read_documents(self.file(name, flipped(html.encode(), chance))))

    def parquet(self, chance: random.Random) -> object:
        import pyarrow
        from pyarrow import parquet

        columns = {"text": ["a text", "another"], "id": [1, 2], "far": [2**40, -(2**40)]}
        table = pyarrow.table(columns)
        kinds = [pyarrow.timestamp("ns"), pyarrow.timestamp("s", tz="UTC"), pyarrow.duration("us"), pyarrow.float32(),
                 pyarrow.string(), pyarrow.time64("ns"), pyarrow.decimal128(30, 5),
                 pyarrow.timestamp("ms")]  # fmt: skip
        with contextlib.suppress(pyarrow.ArrowException):
            column = table.column("far").cast(chance.choice(kinds), safe=False)
            table = table.set_column(2, chance.choice(["far", "text", "url", "lang"]), column)
        target = io.BytesIO()
        parquet.write_table(table, target)
        data = target.getvalue()
        return list(
            read_documents(self.file("table.parquet", data if chance.random() < 0.5 else flipped(data, chance)))
        )

    def warc(self, chance: random.Random) -> object:
        page = b"<html><body><p>" + b"The river runs to the sea. " * 20 + b"</p></body></html>"
        http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page
        head = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.example/\r\nContent-Type: " \
               b"application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n"  # fmt: skip
        data = (head % len(http) + http + b"\r\n\r\n") * 2
        return list(read_documents(self.file("pages.warc", flipped(data, chance))))

    # ---- models ----

    def copied(self, name: str, data: bytes) -> str:
        """The model's folder, with one file changed."""
        folder = self.folder / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.model, folder)
        (folder / name).write_bytes(data)
        return str(folder)

    def json_of_model(self, name: str, value: Any, chance: random.Random) -> object:
        data = json.dumps(changed(value, chance)).encode()
        folder = self.copied(name, flipped(data, chance) if chance.random() < 0.1 else data)
        opened = open_model(folder)
        return opened if opened.config.hidden_size > 4096 else load_model(folder)

    def config(self, chance: random.Random) -> object:
        return self.json_of_model("config.json", json.loads((self.model / "config.json").read_text()), chance)

    def generation(self, chance: random.Random) -> object:
        value = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "eos_token_id": [258, 256], "do_sample": True,
                 "repetition_penalty": 1.05, "pad_token_id": 256}  # fmt: skip
        data = json.dumps(changed(value, chance)).encode()
        return LLM.load(self.copied("generation_config.json", data), config=EngineConfig(num_blocks=8))

    def tokenizer(self, chance: random.Random) -> object:
        path = self.model / "tokenizer.json"
        return self.json_of_model("tokenizer.json", json.loads(path.read_text(encoding="utf-8")), chance)

    def safetensors(self, chance: random.Random) -> object:
        data = (self.model / "model.safetensors").read_bytes()
        size = int.from_bytes(data[:8], "little")
        if chance.random() < 0.5:
            return load_model(self.copied("model.safetensors", flipped(data[: size + 8], chance) + data[size + 8 :]))
        header = json.dumps(changed(json.loads(data[8 : size + 8]), chance)).encode()
        return load_model(
            self.copied("model.safetensors", len(header).to_bytes(8, "little") + header + data[size + 8 :])
        )

    def metadata(self, chance: random.Random) -> object:
        metadata = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in
                    self.gguf.metadata.items()}  # fmt: skip
        key = chance.choice(sorted(metadata))
        odd = chance.choice([0, -1, 2**31, 1.5, True, "", "x", "é", [], ["a"], [1], [1.5], 10**9, 1e30, float("nan")])
        if chance.random() < 0.2:
            del metadata[key]
        else:
            metadata[key] = odd
        path = self.folder / "changed.gguf"
        try:
            write_gguf(path, metadata, self.plans, self.tensors)
        except Exception:  # a value that GGUF has no type for
            return None
        return load_gguf(path)

    def gguf_bytes(self, chance: random.Random) -> object:
        data = (self.folder / "model.gguf").read_bytes()
        return load_gguf(self.file("bytes.gguf", flipped(data[:16000], chance) + data[16000:]))

    def adapter(self, chance: random.Random) -> object:
        value = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["q_proj"],
                 "base_model_name_or_path": str(self.model), "bias": "none", "use_dora": False, "rank_pattern": {},
                 "modules_to_save": None, "fan_in_fan_out": False}  # fmt: skip
        folder = self.folder / "adapter"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(changed(value, chance)))
        return load_model(str(folder))

    def gptq(self, chance: random.Random) -> object:
        config = json.loads((self.model / "config.json").read_text())
        value = {"bits": 4, "group_size": 128, "desc_act": False, "sym": True, "quant_method": "gptq",
                 "checkpoint_format": "gptq"}  # fmt: skip
        config["quantization_config"] = changed(value, chance)
        return load_model(self.copied("config.json", json.dumps(config).encode()))

    # ---- runs, tasks and options ----

    def run_json(self, chance: random.Random) -> object:
        folder = self.folder / "runs" / "one"
        folder.mkdir(parents=True, exist_ok=True)
        record = {"stage": "sft", "state": "running", "created": "2026-01-01T00:00:00+0000", "pid": 1,
                  "config": {"loop": {"lr": 0.1}, "name": "one"}}  # fmt: skip
        data = json.dumps(changed(record, chance)).encode()
        (folder / "run.json").write_bytes(flipped(data, chance) if chance.random() < 0.1 else data)
        for run in runs.all_runs():
            runs.label(run), runs.state(run), runs.comparison([run, run])
        return command(["runs"])

    def metrics(self, chance: random.Random) -> object:
        folder = self.folder / "runs" / "two"
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder, {"stage": "sft", "created": "2026", "config": {}}).set_state("finished")
        rows = [changed({"step": step, "loss": 2.5, "lr": 0.1, "time": 1.5}, chance) for step in range(3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return command(chance.choice([["runs"], ["runs", "follow", "two"], ["runs", "compare", "two", "two"]]))

    TASK_ROWS = {
        "questions": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
                      "kind": "arithmetic", "opening": "It is"},
        "gsm8k": {"question": "q", "answer": "#### 5"}, "text": {"text": "a text"},
    }  # fmt: skip

    def tasks(self, chance: random.Random) -> object:
        name = chance.choice([*self.TASK_ROWS, "mmlu", "ceval"])
        if name in ("mmlu", "ceval"):
            subject, split = ("virology", "test") if name == "mmlu" else ("law", "val")
            header = b"" if name == "mmlu" else b"id,question,A,B,C,D,answer\n"
            row = b'question,"one, two",b,c,d,A\n' if name == "mmlu" else b'0,question,"one, two",b,c,d,A\n'
            for part in (split, "dev"):
                (self.folder / name / part).mkdir(parents=True, exist_ok=True)
                file = self.folder / name / part / f"{subject}_{part}.csv"
                file.write_bytes(flipped(header + row * 5, chance) if chance.random() < 0.5 else header + row * 5)
            return list(TASKS[name](TaskOptions(data=self.folder / name)).examples())
        row = json.dumps(changed(self.TASK_ROWS[name], chance)).encode()
        return list(TASKS[name](TaskOptions(data=self.file(f"{name}.jsonl", row))).examples())

    COMMANDS = [
        ["generate", "MODEL", "--prompt", "x", "--max-tokens", "1"], ["plan", "MODEL", "--seq-len", "64"],
        ["plan", "7b", "--gpus", "2", "--bits", "4", "--rank", "8"], ["tokenizer", "encode", "text", "--tokenizer",
        "MODEL"],
        ["runs", "follow", "none"], ["report", "none"], ["keys", "add", "ann", "--tokens-per-day", "5", "--store",
        "STORE"],
        ["eval", "MODEL", "text", "--data", "none"], ["export", "none", "--to", "out"], ["sft", "MODEL", "--data",
        "none"],
        ["data", "trace", "none", "1"], ["data", "report", "none"], ["data", "reject", "MODEL", "none", "--name", "a"],
        ["serve", "none", "--port", "0", "--no-ui", "--store", "STORE"], ["pretrain", "tiny", "--data", "none"],
        ["quantize", "none", "--to", "out"], ["bench", "none"], ["chat", "none"], ["data", "mix", "none", "out"],
        ["pretrain", "none:none"], ["tokenizer", "extend", "none", "out"], ["data", "build", "none", "out"],
    ]  # fmt: skip
    WORDS = ["", " ", "-1", "0", "9" * 40, "1e400", "nan", "x", "é", "\udcff", "--", "-", "--help", "../..", "a=b",
    "=", "[]",
             "{}", "None", "True", "a\0b", "~nobody/x", "http://", "Qwen/", "/", "*", "a" * 5000, "4",
             "0.5"]  # fmt: skip

    def options(self, chance: random.Random) -> object:
        names = {"MODEL": str(self.model), "STORE": str(self.folder / "keys.sqlite"), "none": str(self.folder / "none"),
                 "out": str(self.folder / "out")}  # fmt: skip
        argv = [names.get(word, word) for word in chance.choice(self.COMMANDS)]
        for _ in range(chance.choice([1, 1, 2])):
            action, word = chance.random(), chance.choice(self.WORDS)
            at = chance.randrange(1, len(argv) + 1)
            if action < 0.6 and at < len(argv):
                argv[at] = word
            elif action < 0.8:
                argv.insert(at, word)
            else:
                argv.append(chance.choice(["--seed", "--bits", "--name", "--no-such", "--data"]))
        return command(argv)
