"""`qianwen data ablate` and `qianwen data mix`, from texts to token files in the proposed mixture."""

import json

import pytest

from qianwen.cli import main
from qianwen.cli.data_ablate import weights_of
from qianwen.data.tokens.mixture import open_mixture
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import write_jsonl


@pytest.fixture
def texts(tmp_path):
    words = {"prose": "the river rises in the hills", "code": "for item in items: print(item)"}
    rows = [
        {"text": f"{number} {text} " * 60, "kind": kind, "source": f"{kind}:{number}"}
        for kind, text in words.items()
        for number in range(60)
    ]
    (tmp_path / "texts").mkdir()
    write_jsonl(tmp_path / "texts" / "texts.jsonl", rows)
    return tmp_path / "texts"


def test_ablate_proposes_and_mix_writes_what_pretraining_reads(texts, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    argv = ["data", "ablate", str(texts), "--mixtures", "8", "--tests", "2", "--seeds", "1", "--steps", "2"]
    argv += ["--hidden-size", "64", "--layers", "1", "--vocab-size", "600", "--without", "code"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "Spearman" in said and "without code" in said and "next: qianwen data mix" in said
    law = tmp_path / "runs" / "ablation" / "law.json"
    before = (tmp_path / "runs" / "ablation" / "runs.jsonl").read_bytes()
    assert main(argv) == 0  # everything is there
    assert (tmp_path / "runs" / "ablation" / "runs.jsonl").read_bytes() == before
    capsys.readouterr()
    vocabulary = tmp_path / "runs" / "ablation" / "tokenizer"
    mix = ["data", "mix", str(texts), str(tmp_path / "mix"), "--vocabulary", str(vocabulary)]
    assert main([*mix, "--weights", str(law)]) == 0
    proposal = json.loads(law.read_text())["proposal"]
    assert open_mixture(tmp_path / "mix", 32).weights == pytest.approx(proposal)
    assert main([*mix, "--weights", "code=3", "prose=1"]) == 0
    assert open_mixture(tmp_path / "mix", 32).weights == pytest.approx({"code": 0.75, "prose": 0.25})


def test_it_says_what_it_cannot_do(texts, capsys):
    assert main(["data", "ablate", str(texts), "--mixtures", "3"]) == 1
    assert "at least 8 mixtures" in capsys.readouterr().err
    for given, said in ((("code=much",), "is not a weight"), (("none.json",), "none.json")):
        with pytest.raises((ConfigError, OSError), match=said):
            weights_of(given)
