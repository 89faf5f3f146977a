"""What a person types by mistake is answered with what is wrong and what to do."""

import io
import socket
from time import perf_counter
from types import SimpleNamespace

import pytest
from rich.console import Console

from qianwen.checkpoints.load import find_model
from qianwen.cli import COMMANDS, main
from qianwen.recipes import load_recipe
from qianwen.runtime import log
from qianwen.runtime.errors import ConfigError
from qianwen.serve.gate import AccessRules, listen
from qianwen.serve.store import Store
from qianwen.train.pretrain import PretrainConfig

from ..cli.conftest import model_folder
from ..serve.conftest import model, start, tokenizer

__all__ = ["model", "model_folder", "start", "tokenizer"]


def run(capsys, *argv: str) -> tuple[int, str]:
    """Status, and all that was printed, on one line."""
    try:
        status = main(list(argv))
    except SystemExit as error:
        status = int(error.code or 0)
    printed = capsys.readouterr()
    return status, " ".join((printed.out + printed.err).split())


# ---- help ----


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-0.5B-Instruct", "kettle.gguf", "runs/mine", "./here", "tiny"])
@pytest.mark.parametrize("options", [["--help"], ["-h"], ["--data", "file.jsonl", "--help"]])
def test_sft_of_a_model_has_help(capsys, model, options):
    status, text = run(capsys, "sft", model, *options)
    assert status == 0 and "--loop.lr" in text and "--method" in text


@pytest.mark.parametrize("model", ["kettle", "./kettle", "a/b", "kettle.gguf", "..", ""])
def test_sft_of_a_model_without_data_says_so(capsys, model):
    status, text = run(capsys, "sft", model)
    assert status == 1 and "add --data FILE" in text


@pytest.mark.parametrize("command", ["chat", "generate", "serve", "bench", "eval", "export", "plan", "quantize"])
def test_help_shows_model(capsys, command):
    status, text = run(capsys, command, "--help")
    assert status == 0 and "MODEL" in text.partition("positional arguments")[2][:200] and " STR" not in text


@pytest.mark.parametrize("command", [["runs", "follow"], ["runs", "delete"], ["report"], ["keys", "add"]])
def test_help_shows_run_and_name(capsys, command):
    status, text = run(capsys, *command, "--help")
    assert status == 0 and ("RUN" in text or "NAME" in text) and "STR" not in text


@pytest.mark.parametrize(
    ("value", "kind"), [("é", "integer"), ("1.5", "integer"), ("", "integer"), ("a" * 20, "integer")]
)
def test_a_number_that_is_none_is_called_that(capsys, value, kind):
    status, text = run(capsys, "plan", "7b", "--gpus", value)
    assert status == 2 and f"not an {kind}: '{value}'" in text and "literal" not in text


# ---- models and recipes ----


@pytest.mark.parametrize("name", ["kettle.jsonl", "notes.txt", "model.bin.txt", "data.parquet", "README"])
def test_a_file_is_not_suggested_for_itself(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError) as error:
        find_model(name)
    assert "Did you mean" not in str(error.value) and "--data FILE" in str(error.value)


def test_only_models_are_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("kettle.gguf", "kettle.gguf.txt", "kettle.jsonl"):
        (tmp_path / name).write_text("")
    (tmp_path / "kettles").mkdir()
    (tmp_path / "kettles" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"Did you mean kettle\.gguf, kettles\?|Did you mean kettles, kettle\.gguf\?"):
        find_model("kettle.ggu")


BROKEN = {
    "broken_syntax": "def recipe(:", "broken_import": "import no_such_module_here", "broken_name": "x = y",
    "broken_exit": "raise SystemError('no')",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_recipe_that_cannot_be_imported_says_why(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{name}.py").write_text(BROKEN[name])
    status, text = run(capsys, "pretrain", name)
    assert status in (1, 70) and ("cannot be imported" in text or "no_such_module_here" in text)
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "name", ["tinny", "a-b", "./x", "..", "x.y.z", "1", "tiny:nothing", "json:loads", "", "a b", ":"]
)
def test_a_recipe_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError):
        load_recipe(name, PretrainConfig, "pretrain")


# ---- ports, hosts and keys ----


@pytest.mark.parametrize("port", [99999, 65536, -1, 10**20])
def test_a_port_that_does_not_exist(port):
    with pytest.raises(ConfigError, match="0 to 65535"):
        listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["a" * 70, "ä" * 70, "a..b", ".", "\udcff"])
def test_a_host_that_does_not_exist(host, monkeypatch):
    def lookup(host, *_, **__):
        host.encode("idna")
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)  # no test may ask the network
    with pytest.raises(ConfigError, match="cannot listen on"):
        listen(host, 8000)


def test_the_command_line_refuses_the_port_before_it_loads_a_model(capsys, tmp_path):
    command = ["serve", "no-such-model", "--port", "99999", "--no-ui", "--store", str(tmp_path / "s.sqlite")]
    status, text = run(capsys, *command)
    assert status == 1 and "--port 99999" in text


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([], "needs an API key"), ([b"Bearer wrong"], "wrong or was revoked"),
        ([b"Basic YTpi"], "wrong or was revoked"),
        ([b"Bearer "], "has no key"), ([b"Token x"], "has no key"), ([b"Basic ???"], "has no key"),
        ([b"Bearer a", b"Bearer b"], "several API keys"), ([b"Bearer " + b"x" * 5000], "has no key"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_called_wrong(headers, message):
    rules = AccessRules(keys_required=True)
    assert message in rules.key_problem([(b"authorization", header) for header in headers])


@pytest.mark.parametrize("command", [["list"], ["revoke", "ann"]])
@pytest.mark.parametrize("place", ["typo.sqlite", "no/such/folder/keys.sqlite"])
def test_a_store_that_is_not_there_is_not_made(capsys, tmp_path, command, place):
    path = tmp_path / place
    status, text = run(capsys, "keys", *command, "--store", str(path))
    assert status == 1 and str(path) in text
    assert not any(tmp_path.iterdir())


def test_no_keys_yet_is_no_error(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("QIANWEN_DATA", str(tmp_path))
    status, text = run(capsys, "keys")
    assert status == 0 and "no keys yet" in text and not any(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [0, -5, 2**63, 10**30])
@pytest.mark.parametrize("option", ["tokens_per_day", "requests_per_minute"])
def test_a_limit_that_no_store_can_hold(limit, option):
    store = Store(":memory:")
    with pytest.raises(ConfigError, match="at least 1"):
        store.add_key("ann", **{option: limit})
    assert not store.has_keys()
    store.close()


# ---- methods ----


@pytest.fixture(scope="module")
def served(start):
    pytest.importorskip("gradio", reason="the pages need gradio")
    with start(pages={}, store=Store(":memory:")) as running, running.client() as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"), ("PUT", "/v1/chat/completions", "POST"), ("GET", "/v1/responses",
        "POST"),
        ("DELETE", "/v1/completions", "POST"), ("GET", "/v1/embeddings", "POST"), ("PATCH", "/tokenize", "POST"),
        ("POST", "/v1/models", "GET"), ("POST", "/v1/models/tiny", "GET"), ("POST", "/health", "GET"),
        ("DELETE", "/metrics", "GET"), ("POST", "/ready", "GET"),
    ],
)  # fmt: skip
def test_another_method_is_405_with_the_pages_too(served, method, path, allowed):
    answer = served.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert allowed in answer.json()["error"]["message"]


def test_a_path_that_is_not_there_is_404(served):
    assert served.get("/v1/nothing").status_code == 404
    assert served.get("/").status_code == 200


# ---- progress ----


def set_clock(monkeypatch, seconds: range) -> None:
    """Let the progress display read these times.

    Only its own `time` is replaced: the event loop of a server that runs in another thread would sleep for days.
    """
    clock = iter(seconds)
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: float(next(clock)), perf_counter=perf_counter))


@pytest.mark.parametrize("total", [None, 5])
def test_progress_without_a_terminal_is_a_line_every_ten_seconds(monkeypatch, total):
    out = io.StringIO()
    monkeypatch.setattr(log, "console", Console(file=out, force_terminal=False, width=80))
    set_clock(monkeypatch, range(0, 1000, 4))
    assert list(log.progress(range(5), total, "reading")) == [0, 1, 2, 3, 4]
    lines = out.getvalue().splitlines()
    assert lines[0] == ("reading: 3 of 5, 0:00:11 left" if total else "reading: 3")
    assert len(lines) == 2 and lines[-1].startswith("reading: 5 in ")


def test_an_item_that_takes_long_is_shown_too(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(log, "console", Console(file=out, force_terminal=False, width=80))
    set_clock(monkeypatch, range(0, 1000, 11))
    with log.ProgressBar("generating", 2) as bar:
        bar.update(description="generating (7 tokens)")
    assert out.getvalue() == "generating (7 tokens): 0 of 2\n"


def test_every_command_answers_help_and_an_unknown_option(capsys):
    for command in COMMANDS:
        assert run(capsys, command, "--help")[0] == 0
        status, text = run(capsys, command, "--no-such-option")
        assert status in (1, 2) and "Traceback" not in text and "internal error" not in text, (command, text)
