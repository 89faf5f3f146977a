"""Checkpoints: a resumed run is the uninterrupted one, and nothing damaged is ever loaded."""

import json
import random
import shutil

import pytest
import torch

from qianwen.runtime.errors import CheckpointError
from qianwen.train.checkpoint import Checkpoints
from qianwen.train.hooks import save_every
from qianwen.train.loop import run


@pytest.mark.parametrize("masters", [None, torch.bfloat16])
@pytest.mark.parametrize("at", [1, 7, 13])
def test_resume_equals_uninterrupted_bit_for_bit(tiny, tmp_path, at, masters):
    """Weights, moments, losses, norms, rates; with dropout, and also where bf16 weights have fp32 masters."""
    straight = tiny.new_state(compute_dtype=masters)
    expected = tiny.train(straight)
    first = tiny.new_state(compute_dtype=masters)
    seen = []
    assert not run(
        first.model,
        tiny.loss_fn,
        tiny.batches(4),
        tiny.loop_config(),
        first,
        [tiny.record(seen)],
        lambda: first.step == at,
    )
    Checkpoints(tmp_path).save(first)
    torch.manual_seed(99)  # another process
    second = tiny.new_state(compute_dtype=masters)
    torch.manual_seed(98)
    assert Checkpoints(tmp_path).load_newest(second) == at
    seen += tiny.train(second)
    for name in ("loss", "grad_norm", "lr", "accuracy"):
        assert [m[name] for m in seen] == [m[name] for m in expected]
    assert tiny.same(tiny.snapshot(second), tiny.snapshot(straight))
    assert all(torch.equal(a, b) for a, b in zip(second.model.parameters(), straight.model.parameters(), strict=True))


def test_refusals_in_a_row_survive_a_resume(tiny, tmp_path):
    """R8: the run stops at the same step as if it had never been interrupted."""
    state = tiny.new_state()

    def hopeless(model, batch):
        loss, *rest = tiny.loss_fn(model, batch)
        return loss * torch.nan, *rest

    run(state.model, hopeless, tiny.batches(4), tiny.loop_config(steps=3), state)
    Checkpoints(tmp_path).save(state)
    other = tiny.new_state()
    Checkpoints(tmp_path).load_newest(other)
    with pytest.raises(ValueError, match="5 refused updates in a row"):
        run(other.model, hopeless, tiny.batches(4), tiny.loop_config(), other)
    assert (other.step, other.skipped_steps) == (5, 5)


def test_keeps_the_newest_and_forgets_an_abandoned_future(tiny, tmp_path):
    state, checkpoints = tiny.new_state(), Checkpoints(tmp_path, keep=2)
    assert checkpoints.load_newest(state) is None
    for state.step in (1, 2, 3, 9):
        checkpoints.save(state)
    assert checkpoints.steps() == [9, 3]
    state.step = 4  # gone back, because step 9 was damaged
    checkpoints.save(state)
    assert checkpoints.steps() == [4, 3]


def test_other_data_and_other_models_are_refused(tiny, tmp_path):
    state = tiny.new_state()
    Checkpoints(tmp_path, facts={"tokens": "abc"}).save(state)
    with pytest.raises(CheckpointError, match="made with tokens = abc, not xyz"):
        Checkpoints(tmp_path, facts={"tokens": "xyz"}).load_newest(state)
    state.model.qwen.lm_head.requires_grad_(False)
    other = type(state)(state.model, type(state.optimizer)(state.model, tiny.AdamWConfig()))
    with pytest.raises(CheckpointError, match=r"differ in .*lm_head"):
        Checkpoints(tmp_path, facts={"tokens": "abc"}).load_newest(other)


def test_saving_goes_on_after_a_full_disk(tiny, tmp_path, monkeypatch, capsys):
    state, checkpoints = tiny.new_state(), Checkpoints(tmp_path)
    hook = save_every(2, checkpoints)
    hook(state, {})
    assert checkpoints.steps() == [0]
    monkeypatch.setattr("qianwen.train.checkpoint.write_safetensors", _no_space)
    state.step = 2
    hook(state, {})
    assert "checkpoint at step 2 failed ([Errno 28] No space left" in capsys.readouterr().out
    assert checkpoints.load_newest(tiny.new_state()) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000"]
    monkeypatch.undo()
    hook(state, {})
    assert checkpoints.load_newest(tiny.new_state()) == 2


def _no_space(*args: object) -> None:
    raise OSError(28, "No space left on device")


# ---- R4: corruption ---------------------------------------------------------------------------------------------


def _truncate(file, rng):
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(len(data))])


def _flip_a_bit(file, rng):
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def _zero_4k(file, rng):
    data = bytearray(file.read_bytes())
    start = rng.randrange(max(1, len(data) - 4096))
    while not any(data[start : start + 4096]):  # zeroing zeros changes nothing
        start = rng.randrange(max(1, len(data) - 4096))
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    file.write_bytes(data)


def _remove(file, rng):
    file.unlink()


def _swap(file, rng):
    older = file.parents[1] / "step-000001" / file.name
    if older.read_bytes() == file.read_bytes():
        _flip_a_bit(file, rng)  # both checkpoints hold the same bytes in this file
    else:
        shutil.copyfile(older, file)


DAMAGES = [_truncate, _flip_a_bit, _zero_4k, _remove, _swap]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_every_damage_is_found_and_the_one_before_is_taken(tiny, tmp_path, capsys, damage):
    """R4: model, optimizer, random states, counters, manifest; 240 injuries of each kind, 1,200 in all."""
    rng = random.Random(damage.__name__)
    state = tiny.new_state()
    pristine = Checkpoints(tmp_path / "pristine")
    for steps in (1, 2):
        tiny.train(state, steps=steps)
        pristine.save(state)
    names = sorted(path.name for path in pristine.path(2).iterdir())
    assert names == ["manifest.json", "rng-00000.json", "state.safetensors", "values.json"]
    wounded = Checkpoints(tmp_path / "wounded")
    shutil.copytree(pristine.folder, wounded.folder)
    for number in range(240):
        shutil.rmtree(wounded.path(2))
        shutil.copytree(pristine.path(2), wounded.path(2))
        damage(wounded.path(2) / names[number % len(names)], rng)
        assert wounded._problem(2), names[number % len(names)]
    capsys.readouterr()
    assert wounded.load_newest(state) == 1
    assert "skipping a damaged checkpoint: " in capsys.readouterr().out
    shutil.rmtree(wounded.path(1))
    with pytest.raises(CheckpointError, match="no checkpoint in .* is intact"):
        wounded.load_newest(state)


def test_a_whole_checkpoint_under_a_false_name_is_found(tiny, tmp_path):
    state, checkpoints = tiny.new_state(), Checkpoints(tmp_path)
    tiny.train(state, steps=1)
    checkpoints.save(state)
    shutil.copytree(checkpoints.path(1), checkpoints.path(7))
    assert checkpoints.load_newest(state) == 1


def test_there_is_no_pickle_in_it(tiny, tmp_path):
    folder = Checkpoints(tmp_path).save(tiny.new_state())
    for path in folder.iterdir():
        assert path.suffix in (".json", ".safetensors")
        if path.suffix == ".json":
            json.loads(path.read_text())
