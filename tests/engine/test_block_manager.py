from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qianwen.engine.block_manager import BlockManager
from qianwen.engine.detokenize import Detokenizer, StopStrings
from qianwen.engine.sampling import Sampler
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.sequence import Sequence


def new_sequence(ids, salt=b"", **fields):
    params = SamplingParams()
    sampler = Sampler(params, ids)
    detokenizer = Detokenizer(None, frozenset(), StopStrings(()))
    return Sequence("r", 0, list(ids), params, sampler, detokenizer, root=salt, **fields)


def admit(blocks: BlockManager, seq: Sequence) -> bool:
    matched = blocks.match_prefix(seq)
    if not blocks.can_admit(seq, matched):
        return False
    blocks.share(seq, matched)
    assert blocks.allocate(seq, seq.num_tokens)
    blocks.register(seq, seq.num_tokens)
    return True


def test_a_common_beginning_is_shared():
    blocks = BlockManager(10, 4)
    a, b = new_sequence(range(10)), new_sequence([*range(8), 99, 98])
    assert admit(blocks, a) and admit(blocks, b)
    assert a.block_table[:2] == b.block_table[:2] and a.block_table[2] != b.block_table[2]
    assert blocks.num_free_blocks == 6


def test_the_last_token_is_always_left_to_compute():
    blocks = BlockManager(10, 4)
    admit(blocks, new_sequence(range(8)))
    assert len(blocks.match_prefix(new_sequence(range(8)))) == 1
    assert len(blocks.match_prefix(new_sequence(range(9)))) == 2
    assert len(blocks.match_prefix(new_sequence(range(12), score_from=5))) == 1
    assert len(blocks.match_prefix(new_sequence(range(12), score_from=0))) == 0


def test_another_salt_finds_nothing():
    blocks = BlockManager(10, 4)
    admit(blocks, new_sequence(range(9), b"alice"))
    assert blocks.match_prefix(new_sequence(range(9), b"bob")) == []
    assert len(blocks.match_prefix(new_sequence(range(9), b"alice"))) == 2


def test_a_block_is_found_after_its_user_is_gone_until_the_space_is_needed():
    blocks = BlockManager(4, 4)
    first = new_sequence(range(8))
    admit(blocks, first)
    blocks.free(first)
    assert blocks.num_free_blocks == 4 and len(blocks.match_prefix(new_sequence(range(9)))) == 2
    other = new_sequence(range(100, 112))
    assert admit(blocks, other)  # takes the two never used and the end of the first
    assert len(blocks.match_prefix(new_sequence(range(9)))) == 1
    blocks.reset()
    assert blocks.match_prefix(new_sequence(range(9))) == []


def test_without_prefix_caching_nothing_is_shared():
    blocks = BlockManager(8, 4, prefix_caching=False)
    a, b = new_sequence(range(9)), new_sequence(range(9))
    assert admit(blocks, a) and admit(blocks, b)
    assert not set(a.block_table) & set(b.block_table)


class BlockMachine(RuleBasedStateMachine):
    """Any order of admits, growth, and frees: no leak, no double use, and what is found is the same text."""

    @initialize(num_blocks=st.integers(1, 12), size=st.integers(1, 4), prefix_caching=st.booleans())
    def begin(self, num_blocks, size, prefix_caching):
        self.blocks = BlockManager(num_blocks, size, prefix_caching)
        self.live: list[Sequence] = []
        self.text_of: dict[int, tuple] = {}  # what a cache would hold in each block

    def write(self, seq):
        size = self.blocks.block_size
        for index in range(seq.num_tokens // size):
            self.text_of[seq.block_table[index]] = (seq.root, tuple(seq.token_ids[: (index + 1) * size]))

    @rule(ids=st.lists(st.integers(0, 1), min_size=1, max_size=20), salt=st.sampled_from([b"", b"x"]))
    def admit(self, ids, salt):
        seq = new_sequence(ids, salt)
        matched = self.blocks.match_prefix(seq)
        size = self.blocks.block_size
        for index, block in enumerate(matched):
            assert self.text_of[block] == (salt, tuple(ids[: (index + 1) * size]))
        assert len(matched) * size < len(ids)
        if admit(self.blocks, seq):
            self.write(seq)
            self.live.append(seq)
        else:
            assert not seq.block_table

    @precondition(lambda self: self.live)
    @rule(data=st.data(), token=st.integers(0, 1))
    def grow(self, data, token):
        seq = data.draw(st.sampled_from(self.live))
        seq.token_ids.append(token)
        free = self.blocks.num_free_blocks
        if self.blocks.allocate(seq, seq.num_tokens):
            self.blocks.register(seq, seq.num_tokens)
            self.write(seq)
        else:
            assert free == self.blocks.num_free_blocks == 0
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
        users = Counter(block for seq in self.live for block in seq.block_table)
        free = set(self.blocks._free)
        assert not free & set(users)
        assert free | set(users) == set(range(self.blocks.num_blocks))
        assert [users[block] for block in range(self.blocks.num_blocks)] == self.blocks._users
        for block_hash, block in self.blocks._block_of.items():
            assert self.blocks._hash_of[block] == block_hash
        for seq in self.live:
            assert len(seq.block_table) == len(set(seq.block_table)) == self.blocks.num_blocks_for(seq.num_tokens)


TestBlocks = BlockMachine.TestCase
TestBlocks.settings = settings(max_examples=100, stateful_step_count=30)
