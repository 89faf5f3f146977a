"""The model of a run is served on request: as an adapter of a served base, or as a model of its own."""

import asyncio
from pathlib import Path

import pytest

from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.hf_folder import write_folder, write_settings
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.runtime.errors import RequestError
from qianwen.runtime.files import RunFolder
from qianwen.serve.admission import Admission, Limits
from qianwen.serve.bridge import Bridge
from qianwen.serve.run_models import MAX_LOADED, RunModels
from qianwen.serve.service import Served, Service

SMALL = EngineConfig(num_blocks=64)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def load(name: str, model: str) -> Served:
    llm = LLM.load(model, config=SMALL)
    return Served(name, Bridge(llm.engine), llm.tokenizer, llm.engine.max_model_len, llm.defaults, source=model)


@pytest.fixture
def service(model, tokenizer, tmp_path, folder):
    write_folder(model, tokenizer, tmp_path / "tiny", chat=True)
    served = load("tiny", str(tmp_path / "tiny"))
    opened = Service([served], Admission(Limits()))
    yield opened
    opened.close()


def finished_run(folder: Path, name: str, model, tokenizer) -> None:
    RunFolder.create(name, "sft", {}).set_state("finished")
    write_folder(model, tokenizer, folder / name / "model", chat=True)


def test_a_run_is_loaded_once_under_its_own_name(service, folder, model, tokenizer):
    finished_run(folder, "mine", model, tokenizer)
    models = RunModels(service, load)
    assert asyncio.run(models.serve("mine")) == "mine"
    bridge = service.model("mine").bridge
    assert len(service.bridges) == 2 and service.is_healthy
    assert asyncio.run(models.serve("mine")) == "mine" and service.model("mine").bridge is bridge


def test_an_adapter_shares_the_weights_of_its_base(service, folder, model, tokenizer, tmp_path):
    from copy import deepcopy

    run = RunFolder.create("lora", "sft", {})
    adapted = deepcopy(model)
    config = LoraConfig(rank=2)
    attach(adapted, config, seed=0)
    (run.path / "model").mkdir()
    write_adapter(adapted, run.path / "model", config, str(tmp_path / "tiny"))
    write_settings(adapted.config, tokenizer, run.path / "model", chat=True)
    run.set_state("finished")
    asyncio.run(RunModels(service, load).serve("lora"))
    served = service.model("lora")
    assert served.parent == "tiny" and served.adapter == "lora" and len(service.bridges) == 1


@pytest.mark.parametrize("name", ["none", "", "../tiny", "/etc", ".", "mine/../mine"])
def test_only_a_run_of_the_list_is_loaded(service, folder, model, tokenizer, name):
    finished_run(folder, "mine", model, tokenizer)
    with pytest.raises(RequestError, match="no run"):
        asyncio.run(RunModels(service, load).serve(name))


def test_a_run_without_a_model_says_so(service, folder):
    RunFolder.create("new", "pretrain", {})
    with pytest.raises(RequestError, match="has no model yet"):
        asyncio.run(RunModels(service, load).serve("new"))


def test_the_oldest_idle_model_makes_room_and_busy_ones_stay(service, folder, model, tokenizer, monkeypatch):
    names = [f"run{number}" for number in range(MAX_LOADED + 2)]
    for name in names:
        finished_run(folder, name, model, tokenizer)
    models = RunModels(service, load)

    async def scene() -> None:
        for name in names[: MAX_LOADED + 1]:
            await models.serve(name)
        assert list(service.models) == ["tiny", *names[1 : MAX_LOADED + 1]]
        monkeypatch.setattr(LLMEngine, "has_work", property(lambda engine: True))
        with pytest.raises(RequestError, match="busy"):
            await models.serve(names[-1])
        monkeypatch.undo()

    asyncio.run(scene())


def test_a_model_that_does_not_fit_is_refused(service, folder, model, tokenizer, monkeypatch):
    finished_run(folder, "big", model, tokenizer)
    monkeypatch.setattr("qianwen.serve.run_models.free_memory_bytes", lambda device: 1.0)
    with pytest.raises(RequestError, match="GB is free"):
        asyncio.run(RunModels(service, load).serve("big"))
    assert "big" not in service.models
