"""The loop: what a step computes, what it refuses, and that nothing depends on how the step was cut up."""

import math

import pytest
import torch

from qianwen.runtime.errors import ConfigError
from qianwen.train.loop import Diverged, run


def test_overfits_a_batch(tiny):
    state = tiny.new_state(dropout=0.0)
    seen = tiny.train(state, lambda cursor: tiny.batches(8)(0), steps=80, micro_batch_size=8, lr=1e-2)
    assert seen[0]["loss"] > 4.0
    assert seen[-1]["loss"] < 0.05
    assert seen[-1]["accuracy"] == 1.0
    assert state.cursor == 80 * 8


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_any_cut_of_a_step_is_the_same_step(tiny, micro_batch_size):
    """R10: 8 × 1 = 4 × 2 = 1 × 8 after 20 steps at the report's rate, with sequences of different lengths."""
    whole, cut = tiny.new_state(dropout=0.0), tiny.new_state(dropout=0.0)
    expected = tiny.train(whole, micro_batch_size=8, lr=3e-4)
    found = tiny.train(cut, micro_batch_size=micro_batch_size, lr=3e-4)
    for name, tensor in whole.tensors().items():
        if name.startswith("weights/"):
            torch.testing.assert_close(cut.tensors()[name], tensor, rtol=0, atol=1e-6)
    for a, b in zip(expected, found, strict=True):
        assert (a["num_items"], a["num_tokens"]) == (b["num_items"], b["num_tokens"])
        assert math.isclose(a["loss"], b["loss"], rel_tol=1e-5)
        assert math.isclose(a["grad_norm"], b["grad_norm"], rel_tol=1e-4)


def test_repeats_bit_for_bit(tiny):
    """R7: the same seed gives the same numbers, dropout included."""
    runs = []
    for _ in range(2):
        state = tiny.new_state()
        runs.append(([m["loss"] for m in tiny.train(state)], tiny.snapshot(state)))
    assert runs[0][0] == runs[1][0]
    assert tiny.same(runs[0][1], runs[1][1])


def test_clips_to_the_norm_and_follows_the_schedule(tiny):
    free, clipped = tiny.new_state(dropout=0.0), tiny.new_state(dropout=0.0)
    seen = tiny.train(free, steps=1, max_grad_norm=1e9, lr=1e-3, warmup_steps=1)
    tiny.train(clipped, steps=1, max_grad_norm=seen[0]["grad_norm"] / 2, lr=1e-3, warmup_steps=1)
    first = [state.tensors()["optimizer/qwen.lm_head.weight/exp_avg"] for state in (free, clipped)]
    torch.testing.assert_close(first[1], first[0] / 2, rtol=1e-4, atol=1e-9)
    assert seen[0]["lr"] == 1e-3


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["activation", "loss", "gradient"])
def test_a_bad_update_touches_nothing(tiny, place, poison):
    """R8: weights, moments and their step counts stay as they were, and training goes on."""
    state = tiny.new_state(dropout=0.0)
    tiny.train(state, steps=5)
    before = tiny.snapshot(state)

    def poisoned(model, batch):
        if place == "activation":
            handle = model.qwen.model.norm.register_forward_hook(lambda module, args, out: out * poison)
        loss, *rest = tiny.loss_fn(model, batch)
        if place == "activation":
            handle.remove()
        if place == "gradient":
            model.qwen.lm_head.weight.register_hook(lambda grad: grad * poison if state.step == 5 else grad)
        return loss * poison if place == "loss" else loss, *rest

    seen = []
    config = tiny.loop_config(steps=6)
    run(state.model, poisoned, tiny.batches(4), config, state, [tiny.record(seen)])
    assert tiny.same(tiny.snapshot(state), before)
    assert "sequences 40 to 47" in seen[0]["refused"]
    assert (state.step, state.skipped_steps, state.consecutive_skips) == (6, 1, 1)
    assert "refused" not in tiny.train(state, steps=7)[0]
    assert (state.skipped_steps, state.consecutive_skips) == (1, 0)
    assert all(tensor.isfinite().all() for tensor in state.tensors().values())


def test_stops_after_refusals_in_a_row(tiny):
    state = tiny.new_state()

    def hopeless(model, batch):
        loss, *rest = tiny.loss_fn(model, batch)
        return loss * math.nan, *rest

    with pytest.raises(Diverged, match="stopped after 3 refused updates in a row: the loss is nan"):
        run(state.model, hopeless, tiny.batches(4), tiny.loop_config(max_skips=3), state)
    assert state.skipped_steps == 3


def test_damaged_moments_stop_the_run_before_they_reach_a_weight(tiny):
    state = tiny.new_state()
    tiny.train(state, steps=2)
    next(tensor for name, tensor in state.tensors().items() if name.endswith("exp_avg")).view(-1)[0] = math.nan
    before = {name: t for name, t in tiny.snapshot(state).items() if name.startswith("weights/")}
    with pytest.raises(Diverged, match="moments are not finite at step 2"):
        tiny.train(state)
    assert all(torch.equal(state.tensors()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("spikes", [set(), {50, 77, 78}])
def test_skips_exactly_the_spikes(tiny, spikes):
    """R9, in short: the losses of these steps are 50-fold."""
    state = tiny.new_state()

    def spiky(model, batch):
        loss, *rest = tiny.loss_fn(model, batch)
        return loss * (50 if state.step in spikes else 1), *rest

    seen = []
    config = tiny.loop_config(steps=100, spike_sigmas=6.0, micro_batch_size=8)
    run(state.model, spiky, tiny.batches(8), config, state, [tiny.record(seen)])
    assert {m["step"] - 1 for m in seen if "refused" in m} == spikes


@pytest.mark.nightly
def test_no_false_spikes_in_2000_steps(tiny):
    """R9."""
    state = tiny.new_state()
    seen = tiny.train(state, steps=2000, micro_batch_size=8, spike_sigmas=6.0)
    assert not [m for m in seen if "refused" in m]


def test_stop_leaves_the_state_between_two_steps(tiny):
    """Asked to stop in the middle of step 3, the loop forgets the half step: what follows is as if never stopped."""
    straight = tiny.new_state()
    expected = tiny.train(straight)
    halting = tiny.new_state()
    asked = iter([False] * 7 + [True])
    seen = []
    config = tiny.loop_config()
    hooks = [tiny.record(seen)]
    assert not run(halting.model, tiny.loss_fn, tiny.batches(4), config, halting, hooks, lambda: next(asked))
    assert halting.step == 3
    assert run(halting.model, tiny.loss_fn, tiny.batches(4), config, halting, hooks)
    assert [m["loss"] for m in seen] == [m["loss"] for m in expected]
    assert tiny.same(tiny.snapshot(halting), tiny.snapshot(straight))


def test_training_in_pieces_is_training_at_once(tiny):
    """`until` returns between two steps; other batches between the calls are as if one function had made both."""
    longer, half = tiny.batches(4, length=20), 160  # sequences used in 20 steps

    def switched(cursor):
        return tiny.batches(4)(cursor) if cursor < half else longer(cursor)

    config, straight, expected, seen = tiny.loop_config(steps=40), tiny.new_state(), [], []
    assert run(straight.model, tiny.loss_fn, switched, config, straight, [tiny.record(expected)])
    pieces = tiny.new_state()
    for until, batches in ((3, tiny.batches(4)), (20, tiny.batches(4)), (20, longer), (31, longer), (99, longer)):
        assert run(pieces.model, tiny.loss_fn, batches, config, pieces, [tiny.record(seen)], until=until)
        assert pieces.step == min(until, 40)
    assert [(m["loss"], m["lr"], m["grad_norm"]) for m in seen] == [
        (m["loss"], m["lr"], m["grad_norm"]) for m in expected
    ]
    assert tiny.same(tiny.snapshot(pieces), tiny.snapshot(straight))


def test_a_group_follows_the_schedule_from_its_own_rate(tiny):
    plain, faster = tiny.new_state(), tiny.new_state(lrs={"qwen.lm_head": 5e-3})
    rates = []

    def note(state, metrics):
        rates.append([metrics["lr"], *(group["lr"] for group in state.optimizer.param_groups)])

    for state in (plain, faster):
        run(state.model, tiny.loss_fn, tiny.batches(4), tiny.loop_config(warmup_steps=5), state, [note], until=8)
    assert all(len(set(row)) == 1 for row in rates[:8])
    for (lr, *_), (shown, *own, head) in zip(rates[:8], rates[8:], strict=True):
        assert shown == lr and set(own) == {lr} and head == pytest.approx(5 * lr)
    moved = [(a.tensors()["weights/qwen.lm_head.weight"]) for a in (plain, faster)]
    assert not torch.equal(*moved)


def test_counts_what_went_through_and_what_was_learned(tiny):
    state, labels = tiny.new_state(), [tiny.batches(8)(0)["labels"], tiny.batches(8)(8)["labels"]]
    seen = tiny.train(state, steps=2)
    assert [m["num_tokens"] for m in seen] == [96, 96]
    assert [m["num_items"] for m in seen] == [int((step != -100).sum()) for step in labels]
    assert state.tokens_seen == sum(m["num_items"] for m in seen) < 192


def test_refuses_steps_that_do_not_come_out_even(tiny):
    config = tiny.loop_config(sequences_per_step=8, micro_batch_size=3)
    with pytest.raises(ConfigError, match="sequences_per_step = 8 is not a multiple .* = 3 × 1"):
        config.grad_accum_steps(1)
    assert tiny.loop_config(micro_batch_size=2).grad_accum_steps(2) == 2


def test_hooks_may_add_metrics_for_later_hooks(tiny):
    state, seen = tiny.new_state(), []
    hooks = [lambda state, metrics: metrics.update(extra=state.step), tiny.record(seen)]
    run(state.model, tiny.loss_fn, tiny.batches(4), tiny.loop_config(steps=2), state, hooks)
    assert [m["extra"] for m in seen] == [1, 2]
