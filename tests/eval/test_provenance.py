"""What is recorded of a model: another weight, template or number of bits is another model; another path is not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval.provenance import model_settings, template_settings, url_settings
from qianwen.eval.remote import OpenAISampling
from qianwen.model.transformer import Qwen
from qianwen.runtime.files import atomic_folder
from qianwen.tokenizer.template_files import TemplateSource
from qianwen.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def folder(llm: LLM, tmp_path: Path) -> Path:
    with atomic_folder(tmp_path / "tiny") as folder:
        write_folder(llm.engine.runner.model, llm.tokenizer, folder, chat=True)
    return tmp_path / "tiny"


def settings(folder: Path, bits: Any = "stored", **config: Any) -> dict[str, Any]:
    return model_settings(
        LLM.load(str(folder), bits=bits, config=EngineConfig(num_blocks=8, **config)), str(folder), bits
    )


def test_the_same_model_elsewhere_has_the_same_settings(folder: Path, tmp_path: Path) -> None:
    first = settings(folder)
    shutil.copytree(folder, tmp_path / "copy" / "tiny")
    assert settings(tmp_path / "copy" / "tiny") == first and str(tmp_path) not in json.dumps(first)
    assert first["model"] == "tiny" and len(first["weights"]) == 64 and first["template"]["sha256"]
    assert {"qianwen", "torch", "python"} <= set(first["versions"]) and first["machine"]["processor"]


def test_what_changes_a_number_changes_the_settings(llm: LLM, folder: Path, tmp_path: Path) -> None:
    first = settings(folder)
    assert settings(folder, None)["bits"] is None != first["bits"]
    assert settings(folder, batch_invariant=True)["exact"] and not first["exact"]
    with atomic_folder(tmp_path / "other") as other:
        write_folder(Qwen(llm.engine.runner.model.config).init_weights(1), llm.tokenizer, other, chat=True)
    assert settings(tmp_path / "other")["weights"] != first["weights"]


def test_a_template_is_known_by_its_text(llm: LLM) -> None:
    def template(text: str, tool_use: str | None = None) -> dict[str, str] | None:
        return template_settings(Tokenizer(llm.tokenizer.vocabulary, template=TemplateSource(text, tool_use)))

    hashes = [template(text, tools) for text, tools in (("a", None), ("b", None), ("a", "t"), ("\ud800", None))]
    assert len({each["sha256"] for each in hashes if each}) == 4
    assert template_settings(llm.tokenizer) == template_settings(llm.tokenizer) != template("a")


def test_a_served_model_says_what_is_left_to_its_server() -> None:
    plain = OpenAISampling(None)  # type: ignore[arg-type]
    assert "repetition_penalty" in url_settings("m", "http://x/v1", plain)["left_to_the_server"]
    assert url_settings("m", "http://x/v1", object())["left_to_the_server"] == []  # type: ignore[arg-type]
