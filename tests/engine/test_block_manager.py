from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qianwen.engine.block_manager import BlockManager
from qianwen.engine.detokenize import Detokenizer, StopStrings
from qianwen.engine.request import Context, Request
from qianwen.engine.sampling import Sampler
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.sequence import Sequence
from qianwen.model.caches.paged import ABSENT


def new_sequence(ids, salt="", **fields):
    request = Request(tuple(ids), SamplingParams(), Context(salt=salt), **fields)
    detokenizer = Detokenizer(None, StopStrings(()))
    return Sequence("r", 0, request, Sampler(request.params, request.tokens), detokenizer)


def admit(blocks: BlockManager, seq: Sequence) -> bool:
    matched = blocks.match_prefix(seq)
    if not blocks.can_admit(seq, matched, seq.num_tokens):
        return False
    blocks.share(seq, matched)
    assert blocks.allocate(seq, seq.num_tokens)
    blocks.register(seq, seq.num_tokens)
    return True


def test_a_common_prefix_is_shared():
    blocks = BlockManager(10, 4)
    a, b = new_sequence(range(10)), new_sequence([*range(8), 99, 98])
    assert admit(blocks, a) and admit(blocks, b)
    [table], [other] = a.block_tables, b.block_tables
    assert table[:2] == other[:2] and table[2] != other[2]
    assert blocks.num_free_blocks == 6


def test_the_last_token_is_always_left_to_compute():
    blocks = BlockManager(10, 4)
    admit(blocks, new_sequence(range(8)))
    assert blocks.match_prefix(new_sequence(range(8))) == 1
    assert blocks.match_prefix(new_sequence(range(9))) == 2
    assert blocks.match_prefix(new_sequence(range(12), score_from=5)) == 1
    assert blocks.match_prefix(new_sequence(range(12), score_from=0)) == 0


def test_another_salt_matches_no_blocks():
    blocks = BlockManager(10, 4)
    admit(blocks, new_sequence(range(9), "alice"))
    assert blocks.match_prefix(new_sequence(range(9), "bob")) == 0
    assert blocks.match_prefix(new_sequence(range(9), "alice")) == 2


def test_a_freed_block_is_matched_until_it_is_reused():
    blocks = BlockManager(4, 4)
    first = new_sequence(range(8))
    admit(blocks, first)
    blocks.free(first)
    assert blocks.num_free_blocks == 4 and blocks.match_prefix(new_sequence(range(9))) == 2
    other = new_sequence(range(100, 112))
    assert admit(blocks, other)  # takes the two never used and the end of the first
    assert blocks.match_prefix(new_sequence(range(9))) == 1
    blocks.reset()
    assert blocks.match_prefix(new_sequence(range(9))) == 0


def test_detached_blocks_have_one_user_and_no_hash():
    blocks = BlockManager([6, 5], 4, windows=(0, 6))
    first, second = new_sequence(range(12)), new_sequence(range(12))
    assert admit(blocks, first) and admit(blocks, second)
    second.num_computed_tokens = 12
    blocks.free_behind_windows(second)
    before = [list(table) for table in second.block_tables]
    assert blocks.detach(second) == before
    for pool, old, new in zip(blocks.pools, before, second.block_tables, strict=True):
        assert [block == ABSENT for block in old] == [block == ABSENT for block in new]
        assert all(pool.users[block] == 1 and pool.hash_of[block] is None for block in new if block != ABSENT)
        assert new[2] == old[2] and new[1] != old[1]  # the last block was its own
    assert blocks.match_prefix(new_sequence(range(12))) == 2  # the first sequence still has its blocks


def test_blocks_are_not_detached_if_blocks_are_lacking():
    blocks = BlockManager(4, 4)
    first, second = new_sequence(range(12)), new_sequence(range(12))
    assert admit(blocks, first) and admit(blocks, second)
    before = [list(table) for table in second.block_tables]
    assert blocks.detach(second) is None and second.block_tables == before
    assert blocks.match_prefix(new_sequence(range(13))) == 3


def test_rerotated_blocks_are_not_entered_in_the_prefix_cache():
    blocks = BlockManager(10, 4)
    seq = new_sequence(range(8))
    seq.is_rerotated = True
    admit(blocks, seq)
    assert blocks.match_prefix(new_sequence(range(9))) == 0


def test_a_reported_prompt_may_come_from_the_cache_again():
    """After a preemption in the answer, its scores and the mean of its states are complete."""
    blocks = BlockManager(10, 4)
    admit(blocks, new_sequence(range(12)))
    for fields in ({"score_from": 0}, {"pooling": "mean"}):
        seq = new_sequence(range(11), **fields)
        assert blocks.match_prefix(seq) == 0
        seq.token_ids.append(11)
        assert blocks.match_prefix(seq) == 2


def test_without_prefix_caching_nothing_is_shared():
    blocks = BlockManager(8, 4, prefix_caching=False)
    a, b = new_sequence(range(9)), new_sequence(range(9))
    assert admit(blocks, a) and admit(blocks, b)
    assert not set(a.block_tables[0]) & set(b.block_tables[0])


def test_blocks_behind_a_window_are_freed_but_full_attention_keeps_all():
    blocks = BlockManager([10, 6], 4, windows=(0, 5))
    seq = new_sequence(range(12))
    assert admit(blocks, seq)
    blocks.free_behind_windows(seq)  # nothing is computed yet
    assert ABSENT not in seq.block_tables[1]
    seq.num_computed_tokens = 12  # the next token sees 8 … 12
    blocks.free_behind_windows(seq)
    full, windowed = seq.block_tables
    assert len(full) == 3 and windowed[:2] == [ABSENT, ABSENT] and windowed[2] != ABSENT
    assert [len(pool.free) for pool in blocks.pools] == [7, 5]
    blocks.free(seq)
    assert blocks.num_free_blocks == blocks.num_blocks == 16


def test_a_prefix_matches_if_each_kind_holds_what_the_next_token_sees():
    blocks = BlockManager([10, 5], 4, windows=(0, 5))
    first = new_sequence(range(16))
    assert admit(blocks, first)
    first.num_computed_tokens = 16
    blocks.free_behind_windows(first)
    assert blocks.match_prefix(new_sequence(range(17))) == 4
    assert blocks.match_prefix(new_sequence([*range(9), 99])) == 2  # its window has left them, but nobody needed them
    crowd = new_sequence(range(100, 116))
    assert admit(blocks, crowd)  # takes all blocks that nobody uses
    assert blocks.match_prefix(new_sequence([*range(9), 99])) == 0  # full attention has the beginning, the window not
    second = new_sequence(range(17))
    assert blocks.match_prefix(second) == 4
    blocks.share(second, 4)
    assert second.block_tables[0] == first.block_tables[0]
    assert second.block_tables[1] == first.block_tables[1] == [ABSENT, ABSENT, ABSENT, first.block_tables[1][3]]


KINDS = [(0,), (3,), (0, 5), (1, 0, 7)]


class BlockMachine(RuleBasedStateMachine):
    """Any order of admissions, growth and frees: no leak, no double use, and matched blocks hold the right text."""

    @initialize(
        num_blocks=st.lists(st.integers(1, 12), min_size=3, max_size=3),
        size=st.integers(1, 4),
        prefix_caching=st.booleans(),
        windows=st.sampled_from(KINDS),
    )
    def begin(self, num_blocks, size, prefix_caching, windows):
        self.blocks = BlockManager(num_blocks[: len(windows)], size, prefix_caching, windows)
        self.live: list[Sequence] = []
        self.text_of: list[dict[int, tuple]] = [{} for _ in windows]  # what a cache would hold in each block of a kind

    def texts(self, seq):
        """The text that each full block of `seq` must hold."""
        size = self.blocks.block_size
        return [(seq.context.salt, tuple(seq.token_ids[: end * size])) for end in range(1, seq.num_tokens // size + 1)]

    def compute(self, seq):
        """Fill the blocks, read those inside the windows, and continue to the last token."""
        for pool, table, text_of in zip(self.blocks.pools, seq.block_tables, self.text_of, strict=True):
            texts, size = self.texts(seq), self.blocks.block_size
            for index in range(seq.num_computed_tokens // size, len(texts)):
                text_of[table[index]] = texts[index]
            first = max(seq.num_computed_tokens + 1 - pool.window, 0) if pool.window else 0
            for index in range(first // size, len(texts)):
                assert text_of[table[index]] == texts[index]
        seq.num_computed_tokens = seq.num_tokens
        self.blocks.free_behind_windows(seq)

    @rule(ids=st.lists(st.integers(0, 1), min_size=1, max_size=20), salt=st.sampled_from(["", "x"]))
    def admit(self, ids, salt):
        seq = new_sequence(ids, salt)
        num_shared = self.blocks.match_prefix(seq)
        assert num_shared * self.blocks.block_size < len(ids)
        if admit(self.blocks, seq):
            seq.num_computed_tokens = num_shared * self.blocks.block_size
            self.compute(seq)
            self.live.append(seq)
        else:
            assert not seq.block_tables

    @precondition(lambda self: self.live)
    @rule(data=st.data(), token=st.integers(0, 1))
    def grow(self, data, token):
        seq = data.draw(st.sampled_from(self.live))
        seq.token_ids.append(token)
        free = [len(pool.free) for pool in self.blocks.pools]
        if self.blocks.allocate(seq, seq.num_tokens):
            self.blocks.register(seq, seq.num_tokens)
            self.compute(seq)
        else:
            assert free == [len(pool.free) for pool in self.blocks.pools] and min(free) == 0
            self.live.remove(seq)
            self.blocks.free(seq)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def free(self, data):
        seq = data.draw(st.sampled_from(self.live))
        self.live.remove(seq)
        self.blocks.free(seq)
        self.blocks.free(seq)  # once more does nothing

    @rule()
    def reset(self):
        if not self.live:
            self.blocks.reset()

    @invariant()
    def nothing_leaks(self):
        if not hasattr(self, "blocks"):
            return
        for kind, pool in enumerate(self.blocks.pools):
            tables = [[block for block in seq.block_tables[kind] if block != ABSENT] for seq in self.live]
            users = Counter(block for table in tables for block in table)
            free = set(pool.free)
            assert not free & set(users)
            assert free | set(users) == set(range(pool.num_blocks))
            assert [users[block] for block in range(pool.num_blocks)] == pool.users
            for block_hash, block in pool.block_of.items():
                assert pool.hash_of[block] == block_hash
            for seq, table in zip(self.live, tables, strict=True):
                size = self.blocks.block_size
                assert len(seq.block_tables[kind]) == self.blocks.num_blocks_for(seq.num_tokens)
                assert len(set(table)) == len(table)
                if pool.window:
                    assert len(table) <= -(-pool.window // size) + 1

    def teardown(self):
        for seq in getattr(self, "live", []):
            self.blocks.free(seq)
        if hasattr(self, "blocks"):
            assert self.blocks.num_free_blocks == self.blocks.num_blocks


TestBlocks = BlockMachine.TestCase
TestBlocks.settings = settings(max_examples=200, stateful_step_count=30)
