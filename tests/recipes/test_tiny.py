"""The demo's values fit each other."""

import pytest
import torch

from qianwen.align.sft import SFTConfig
from qianwen.model.transformer import Qwen
from qianwen.recipes import load_recipe, tiny
from qianwen.runtime.files import runs_dir
from qianwen.train.pretrain import PretrainConfig


def test_the_recipes_are_found_by_their_kind() -> None:
    assert load_recipe("tiny", PretrainConfig, "pretrain") == tiny.pretrain()
    assert load_recipe("tiny", SFTConfig, "sft") == tiny.sft()


@pytest.mark.parametrize("recipe", [tiny.demo, tiny.quick])
def test_stages_read_what_the_stage_before_wrote(recipe) -> None:
    config = recipe("mine")
    folder = runs_dir() / "mine"
    assert (config.pretrain.name, config.sft.name) == ("mine/pretrain", "mine/sft")
    assert config.pretrain.data == str(folder / "text" / "train")
    assert config.sft.data == str(folder / "text" / "dialogues" / "train.jsonl")
    assert config.sft.seq_len <= config.pretrain.model.max_position_embeddings
    assert config.pretrain.loop.grad_accum_steps(1) and config.sft.loop.grad_accum_steps(1)


def test_the_demo_is_small() -> None:
    with torch.device("meta"):
        model = Qwen(tiny.demo().pretrain.model)
    assert 1e6 < sum(parameter.numel() for parameter in model.parameters()) < 6e6


def test_a_seed_reaches_every_stage() -> None:
    config = tiny.demo(seed=7)
    assert config.pretrain.seed == config.sft.seed == 7


def test_tool_use_continues_the_demos_chat_model_and_fits_its_context() -> None:
    config = tiny.tool_use("mine", seed=2)
    assert config.name == "mine/tool_use-2" and config.seed == 2
    assert config.model == str(runs_dir() / "mine" / "sft" / "model")
    assert config.data != tiny.tool_use("mine", seed=1).data
    assert load_recipe("tiny", SFTConfig, "tool_use") == tiny.tool_use()
