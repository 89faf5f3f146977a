from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.engine.block_manager import BlockManager
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.scheduler import Scheduler
from qianwen.engine.sequence import Status

from .test_block_manager import new_sequence


def play(scheduler, chunks):
    """Simulates a step of the engine: all chunks run, and each sequence without missing tokens gets a new one."""
    finished = []
    for chunk in chunks:
        seq = chunk.seq
        scheduler.complete(seq, min(chunk.end, seq.num_tokens))
        if chunk.num_rows:
            seq.draft = []
            seq.token_ids.append(7)
            if seq.num_output_tokens >= seq.wanted:
                scheduler.finish(seq, "length")
                finished.append(seq)
    return finished


def request(num_prompt, wanted, salt=""):
    seq = new_sequence(range(num_prompt), salt)
    seq.wanted = wanted
    return seq


def make(num_blocks=16, block_size=4, max_num_seqs=4, budget=8):
    return Scheduler(BlockManager(num_blocks, block_size), max_num_seqs, budget)


def test_a_long_prompt_does_not_stop_running_answers():
    scheduler = make(num_blocks=64)
    scheduler.add(request(2, 50))
    play(scheduler, scheduler.schedule())
    scheduler.add(request(40, 5, "x"))
    for _ in range(5):
        chunks = scheduler.schedule()
        assert [chunk.num_tokens for chunk in chunks] == [1, 7]
        play(scheduler, chunks)


def test_texts_that_are_only_scored_run_in_larger_steps_until_somebody_wants_an_answer():
    scheduler = make(num_blocks=64)
    for salt in ("a", "b"):
        text = new_sequence(range(40), salt, score_from=1)
        text.params, text.wanted = SamplingParams(max_tokens=0), 0
        scheduler.add(text)
    chunks = scheduler.schedule()
    assert sum(chunk.num_tokens for chunk in chunks) == 32
    play(scheduler, chunks)
    scheduler.add(request(4, 5, "x"))
    assert sum(chunk.num_tokens for chunk in scheduler.schedule()) == 8


def test_the_newest_is_preempted_and_is_first_in_line():
    scheduler = make(num_blocks=4, block_size=2, budget=16)
    old, young = request(3, 4), request(3, 4, "x")
    scheduler.add(old)
    scheduler.add(young)
    assert len(scheduler.schedule()) == 1  # two blocks are left for what runs
    play(scheduler, scheduler.schedule())
    while not scheduler.num_preemptions and old.status is not Status.FINISHED:
        play(scheduler, scheduler.schedule())
    assert old.status is Status.FINISHED or young in scheduler.waiting


def test_sequences_of_one_step_share_what_it_computes():
    scheduler = make(num_blocks=16, budget=64)
    a, b = request(13, 1), request(13, 1)
    scheduler.add(a)
    scheduler.add(b)
    assert [(chunk.start, chunk.num_tokens) for chunk in scheduler.schedule()] == [(0, 13), (12, 1)]
    assert a.block_tables[0][:3] == b.block_tables[0][:3]


def test_no_sequence_is_preempted_for_a_draft():
    scheduler = make(num_blocks=3, block_size=2, budget=16)
    first, second = request(2, 9), request(1, 9, "x")
    scheduler.add(first)
    scheduler.add(second)
    while len(scheduler.running) < 2:
        play(scheduler, scheduler.schedule())
    first.draft = [1, 2, 3, 4]
    chunks = scheduler.schedule()
    assert [chunk.num_tokens for chunk in chunks] == [1, 1] and first.draft == []


def test_who_reads_again_keeps_its_place():
    """Before the newer running ones when blocks run out, and before all that wait."""
    scheduler = make(num_blocks=32, max_num_seqs=3, budget=12)
    seqs = [request(4, 9, salt) for salt in "abcd"]
    for seq in seqs:
        scheduler.add(seq)
    play(scheduler, scheduler.schedule())
    first, second, third, fourth = seqs
    scheduler.reread(second)
    scheduler.reread(first)
    assert list(scheduler.waiting) == [first, second, fourth] and scheduler.running == [third]
    chunks = scheduler.schedule()
    assert [(chunk.seq, chunk.start) for chunk in chunks] == [
        (third, 4),
        (first, 4),
        (second, 4),
    ]  # the prompt is cached
    assert scheduler.running == [first, second, third] and scheduler.num_rereads == 2
    assert scheduler.num_preemptions == 0


def test_restart_makes_all_sequences_recompute():
    scheduler = make()
    seqs = [request(5, 2), request(9, 2, "x"), request(3, 2, "y")]
    for seq in seqs:
        scheduler.add(seq)
    scheduler.schedule()
    scheduler.restart()
    assert list(scheduler.waiting) == seqs and scheduler.blocks.num_free_blocks == 16
    assert scheduler.blocks.match_prefix(request(5, 2)) == 0


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 24), st.integers(1, 8), st.sampled_from(["", "x"])),
        st.tuples(st.just("abort"), st.integers(0, 20)),
        st.tuples(st.just("draft"), st.integers(0, 20), st.integers(1, 6)),
        st.tuples(st.just("step")),
        st.tuples(st.just("reread"), st.integers(0, 20)),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(EVENTS, st.integers(8, 20), st.integers(1, 4), st.integers(1, 12))
def test_every_request_ends_and_nothing_leaks(events, num_blocks, max_num_seqs, budget):
    """The longest request, 24 + 8 tokens and a draft token, needs 8 blocks of 4 and fits alone."""
    scheduler = make(num_blocks, 4, max_num_seqs, budget)
    seqs = []
    for kind, *args in events:
        if kind == "add":
            seqs.append(request(*args))
            scheduler.add(seqs[-1])
        elif kind == "abort" and seqs:
            scheduler.finish(seqs[args[0] % len(seqs)], "abort")
        elif kind == "draft" and scheduler.running:
            seq = scheduler.running[args[0] % len(scheduler.running)]
            room = seq.num_prompt_tokens + seq.wanted - seq.num_tokens - 1
            if seq.num_new_tokens == 1:
                seq.draft = [9] * min(args[1], room)
        elif kind == "reread" and scheduler.running:
            scheduler.reread(scheduler.running[args[0] % len(scheduler.running)])
        elif kind == "restart":
            scheduler.restart()
        elif kind == "step":
            step(scheduler, max_num_seqs, budget)
    num_steps = 0
    while scheduler.has_work:
        assert step(scheduler, max_num_seqs, budget), "work waits and nothing runs"
        num_steps += 1
        assert num_steps < 5000
    assert all(seq.status is Status.FINISHED for seq in seqs)
    assert scheduler.blocks.num_free_blocks == num_blocks


def step(scheduler, max_num_seqs, budget):
    chunks = scheduler.schedule()
    assert sum(chunk.num_tokens for chunk in chunks) <= max(budget, len(chunks))
    assert len(chunks) <= len(scheduler.running) <= max_num_seqs
    assert len({id(chunk.seq) for chunk in chunks}) == len(chunks)
    for queue in (scheduler.running, scheduler.waiting):
        assert [seq.arrival for seq in queue] == sorted(seq.arrival for seq in queue)
    for chunk in chunks:
        assert chunk.num_tokens > 0 and chunk.start == chunk.seq.num_computed_tokens
        assert chunk.end <= len(chunk.seq.block_tables[0]) * scheduler.blocks.block_size
        assert len(chunk.token_ids) == chunk.num_tokens
    play(scheduler, chunks)
    return chunks
