"""The published numbers, and how a recipe is found."""

import inspect
import sys

import pytest
import torch

from qianwen import recipes
from qianwen.align.sft_config import SFTConfig
from qianwen.model import Qwen
from qianwen.recipes import load_recipe, qwen_1_8b, qwen_7b, qwen_14b, qwen_72b
from qianwen.runtime.errors import ConfigError
from qianwen.train.pretrain import PretrainConfig

TRILLION = 10**12


@pytest.mark.parametrize(
    ("spec", "tokens", "parameters", "lr", "eps"),
    [
        ("qwen_7b:memo", 2.2, 7_721_324_544, 3e-4, 1e-6),
        ("qwen_7b:report", 2.4, 7_721_324_544, 3e-4, 1e-8),
        ("qwen_1_8b", 2.2, 1_836_828_672, 3e-4, 1e-8),
        ("qwen_14b", 3.0, 14_167_290_880, 3e-4, 1e-8),
        ("qwen_72b", 3.0, 72_287_920_128, None, 1e-8),
    ],
)
def test_recipes_hold_the_published_numbers(spec, tokens, parameters, lr, eps):
    config = load_recipe(spec, PretrainConfig, "pretrain")
    loop = config.loop
    assert loop.steps * config.tokens_per_step == pytest.approx(tokens * TRILLION, rel=1e-6)
    assert config.tokens_per_step == 2048 * 2048
    assert (loop.warmup_steps, loop.min_lr_ratio, loop.shape, loop.max_grad_norm) == (2000, 0.1, "cosine", 1.0)
    assert (config.optim.betas, config.optim.eps, config.optim.weight_decay) == ((0.9, 0.95), eps, 0.1)
    assert lr is None or loop.lr == lr
    assert loop.grad_accum_steps(64) >= 1
    with torch.device("meta"):
        model = Qwen(config.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("size", ["1_8b", "7b", "14b", "72b"])
@pytest.mark.parametrize(
    ("recipe", "lr", "eps", "mask"), [("sft", 2e-6, 1e-8, "clean"), ("sft_memo", 1e-5, 1e-6, "memo")]
)
def test_fine_tuning_recipes_hold_the_published_numbers(size, recipe, lr, eps, mask):
    config = load_recipe(f"qwen_{size}:{recipe}", SFTConfig, "sft")
    loop, optim = config.loop, config.optim
    assert (loop.lr, optim.eps, config.mask, config.method) == (lr, eps, mask, "full")
    assert (config.seq_len, loop.sequences_per_step, loop.steps, loop.warmup_steps) == (2048, 128, 4000, 1430)
    assert (optim.betas, optim.weight_decay, config.dropout, loop.max_grad_norm) == ((0.9, 0.95), 0.1, 0.1, 1.0)
    assert config.model.lower().replace("_", ".") == f"qwen/qwen-{size.replace('_', '.')}"
    assert config.name == f"qwen-{size.replace('_', '.')}-sft" + ("-memo" if recipe == "sft_memo" else "")


def test_the_recipe_of_fine_tuning_is_that_of_the_command():
    assert load_recipe("qwen_7b", SFTConfig, "sft").name == "qwen-7b-sft"


@pytest.mark.parametrize("module", [qwen_1_8b, qwen_7b, qwen_14b, qwen_72b])
def test_every_number_says_where_it_comes_from(module):
    """A line that sets a number has a comment on it."""
    for line in inspect.getsource(module).splitlines():
        code, _, comment = line.partition("#")
        if "=" in code and any(sign.isdigit() for sign in code.split("=", 1)[1]) and '"' not in code:
            assert comment.strip(), line


def test_a_name_with_several_recipes_lists_them():
    with pytest.raises(
        ConfigError, match="qwen_7b has several recipes for PretrainConfig: choose one of qwen_7b:memo, qwen_7b:report"
    ):
        load_recipe("qwen_7b", PretrainConfig, "pretrain")
    with pytest.raises(ConfigError, match="qwen_7b:meno is not a recipe for PretrainConfig"):
        load_recipe("qwen_7b:meno", PretrainConfig, "pretrain")


def test_of_several_recipes_the_one_named_like_the_command_is_taken(tmp_path, monkeypatch):
    (tmp_path / "two_recipes.py").write_text(
        "from dataclasses import replace\n"
        "from qianwen.recipes import qwen_7b\n"
        "from qianwen.train.pretrain import PretrainConfig\n"
        "def extend() -> PretrainConfig:\n"
        "    return replace(qwen_7b.memo(), name='longer')\n"
        "def pretrain() -> PretrainConfig:\n"
        "    return replace(qwen_7b.memo(), name='first')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert load_recipe("two_recipes", PretrainConfig, "pretrain").name == "first"
    assert load_recipe("two_recipes:extend", PretrainConfig, "pretrain").name == "longer"
    with pytest.raises(ConfigError, match="several recipes .*: choose one of two_recipes:extend, two_recipes:pretrain"):
        load_recipe("two_recipes", PretrainConfig, "sft")


def test_a_misspelt_recipe_gets_a_suggestion():
    with pytest.raises(ConfigError, match="no recipe qwen_7d: did you mean qwen_7b?"):
        load_recipe("qwen_7d:memo", PretrainConfig, "pretrain")
    with pytest.raises(ConfigError, match="known: .*qwen_14b"):
        load_recipe("zzz", PretrainConfig, "pretrain")


def test_a_recipe_may_live_outside(tmp_path, monkeypatch):
    (tmp_path / "my_recipes.py").write_text(
        "from dataclasses import replace\n"
        "from qianwen.recipes import qwen_7b\n"
        "from qianwen.train.pretrain import PretrainConfig\n"
        "def mine() -> PretrainConfig:\n"
        "    return replace(qwen_7b.memo(), name='mine')\n"
    )
    (tmp_path / "broken_recipes.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert load_recipe("my_recipes:mine", PretrainConfig, "pretrain").name == "mine"
    with pytest.raises(ConfigError, match="cannot be imported: .*not_installed_anywhere"):
        load_recipe("broken_recipes:any", PretrainConfig, "pretrain")


def test_every_module_here_can_be_named():
    assert {"qwen_1_8b", "qwen_7b", "qwen_14b", "qwen_72b"} <= {
        m.name for m in recipes.pkgutil.iter_modules(recipes.__path__)
    }
