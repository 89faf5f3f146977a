import json
import shutil
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch

from qianwen.data.tokens.mixture import open_mixture
from qianwen.model.config import QwenConfig
from qianwen.runtime.device import num_threads
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import read_jsonl, write_jsonl
from qianwen.train.ablation import FIT, LAW, MIXTURE, RUNS, TEST, Ablation
from qianwen.train.ablation_report import write_report
from qianwen.train.loop import LoopConfig
from qianwen.train.proxy_model import AblationConfig, Proxy, prepare, train_proxy


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AblationConfig:
    """Two domains of disjoint letters, so small that a proxy takes a few hundredths of a second."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    words = {"low": "abacadabba cabba dacaba", "high": "xyzzyxyx zyx yxzy"}
    rows = [
        {"text": f"{text} {n} " * 8, "kind": kind, "source": f"{kind}:{n}"}
        for kind, text in words.items()
        for n in range(120)
    ]
    write_jsonl(path, rows)
    model = QwenConfig(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    loop = LoopConfig(steps=12, sequences_per_step=2, micro_batch_size=2, lr=1e-2, warmup_steps=2)
    return AblationConfig(
        inputs=str(path), vocab_size=512, model=model, seq_len=32, loop=loop, num_fit=8, num_test=3, seeds=2,
        held_out=0.2, held_out_tokens=300, without=("high",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def prepared(config: AblationConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablation")
    prepare(folder, config)
    return folder


def test_an_ablation_from_texts_to_a_mixture_that_can_be_trained_on(config: AblationConfig, prepared: Path) -> None:
    ablation = Ablation(prepared, config)
    assert len(list(ablation.train(ablation.first_proxies()))) == 11
    law = ablation.propose()
    assert sum(law["proposal"].values()) == pytest.approx(1) and law["error"] >= 0
    assert law["left_out"]["mixtures"] == 11 and -1 <= law["left_out"]["spearman"] <= 1
    assert law == json.loads((prepared / LAW).read_text())
    list(ablation.train(ablation.last_proxies(ablation.proposal())))
    compared = ablation.compared()
    assert set(compared) == {"proposal", "natural", "uniform", "without high"}
    assert all(len(found["by_seed"]) == 2 for found in compared.values())
    assert compared["without high"]["losses"]["high"] > compared["proposal"]["losses"]["high"]
    assert open_mixture(prepared / MIXTURE, 32).weights == pytest.approx(law["proposal"])
    write_report(ablation, law)
    assert "without high" in (prepared / "report.html").read_text()


def test_more_of_a_domain_lowers_its_loss(config: AblationConfig, prepared: Path) -> None:
    ablation = Ablation(prepared, config)
    list(ablation.train(ablation.first_proxies()))
    weights, losses = ablation.weights_and_losses(FIT)
    assert np.corrcoef(weights[:, 0], losses[:, 0])[0, 1] < -0.5


def test_what_is_done_is_not_done_again_and_half_a_row_is_nothing(config: AblationConfig, prepared: Path) -> None:
    ablation = Ablation(prepared, config)
    list(ablation.train(ablation.first_proxies()))
    before = (prepared / RUNS).read_text()
    rows = list(read_jsonl(prepared / RUNS))
    first = next(row for row in rows if row["purpose"] == TEST)
    with (prepared / RUNS).open("a") as file:
        file.write('{"purpose": "fit", "num')
    again = Ablation(prepared, config)
    assert (prepared / RUNS).read_text() == before
    assert list(again.train(again.first_proxies())) == []
    proxy = Proxy(first["purpose"], first["number"], first["seed"], first["weights"])
    with num_threads(2):
        assert train_proxy(prepared, config, proxy) == first  # to the last bit
        assert torch.get_num_threads() == 2


def test_stopped_with_workers_it_leaves_none_and_goes_on_with_the_same_numbers(
    config: AblationConfig, prepared: Path, tmp_path: Path
) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    (tmp_path / RUNS).unlink(missing_ok=True)
    stopped, alone = Ablation(tmp_path, config), Ablation(prepared, config)
    rows = stopped.train(stopped.first_proxies(), workers=2)
    next(rows)
    rows.close()  # what an error or Ctrl-C does to it
    assert not active_children()
    again = Ablation(tmp_path, config)
    assert 1 <= len(again.rows) < 11
    list(again.train(again.first_proxies()))
    list(alone.train(alone.first_proxies()))
    assert again.rows == {key: row for key, row in alone.rows.items() if key[0] in (FIT, TEST)}


def test_repetition_bounds_every_mixture(config: AblationConfig, prepared: Path) -> None:
    sizes = Ablation(prepared, config).domains.tokens
    bounded = replace(config, run_tokens=2 * sum(sizes.values()), max_epochs=2.5)
    ablation = Ablation(prepared, bounded)
    most = ablation.domains.most
    assert most is not None
    for proxy in ablation.first_proxies():
        assert (np.array(list(proxy.weights.values())) <= most + 1e-6).all()
    with pytest.raises(ConfigError, match="more than"):
        _ = Ablation(prepared, replace(config, run_tokens=10**9)).domains.most


def test_a_domain_that_is_not_there_cannot_be_left_out(config: AblationConfig, prepared: Path) -> None:
    with pytest.raises(ConfigError, match="no domain middle"):
        Ablation(prepared, replace(config, without=("middle",)))
    with pytest.raises(ConfigError, match="nothing to mix"):
        alone = replace(config, by=("lang",))
        folder = prepared.parent / "alone"
        prepare(folder, alone)
        Ablation(folder, alone)
