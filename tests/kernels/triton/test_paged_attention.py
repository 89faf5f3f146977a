"""Attention over pages in Triton gives PyTorch's result, for prompts and answers in one batch."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton has no wheel for this system")

from qianwen.kernels.triton.paged_attention import LEAST_KEYS, paged_attention  # noqa: E402


def reference(q: Tensor, k: Tensor, v: Tensor, context: int, window: int) -> Tensor:
    """q [T, h, d], k and v [S, g, d] → [T, h, d], from the definition, in double precision."""
    q, k, v = q.double(), k.double()[:context], v.double()[:context]
    k, v = (x.repeat_interleave(q.size(1) // k.size(1), 1) for x in (k, v))
    back = torch.arange(context - len(q), context)[:, None] - torch.arange(context)
    hidden = (back < 0) | (back >= (window or context))
    scores = torch.einsum("thd,shd->hts", q, k) * q.size(2) ** -0.5
    return torch.einsum("hts,shd->thd", scores.masked_fill(hidden.to(q.device), -torch.inf).softmax(-1), v)


class Batch:
    """Sequences with random pages in any order; pages of no sequence hold values that would be seen in a result."""

    def __init__(self, lengths, contexts, heads=(6, 2), size=64, page=16, dtype=torch.float32, device="cpu"):
        torch.manual_seed(0)
        self.lengths, self.contexts = lengths, contexts
        pages = [-(-context // page) for context in contexts]
        order = torch.randperm(sum(pages) + 1, device=device).int()
        self.tables = order[-1:].repeat(len(pages), max(pages))  # padding
        for table, own in zip(self.tables, order[:-1].split(pages), strict=True):
            table[: len(own)] = own
        self.q = torch.randn(sum(lengths), heads[0], size, device=device, dtype=dtype)
        self.k, self.v = torch.randn(2, sum(pages) + 1, page, heads[1], size, device=device, dtype=dtype)
        self.k[order[-1]] = self.v[order[-1]] = 1000

    def attend(self, window: int = 0, rows: slice = slice(None), **options) -> Tensor:
        """The kernel's result for the sequences in `rows`."""
        ends = [0, *torch.tensor(self.lengths).cumsum(0).tolist()]
        chosen = range(len(self.lengths))[rows]
        q = self.q[ends[chosen[0]] : ends[chosen[-1] + 1]]
        numbers = torch.tensor([self.contexts[rows], self.lengths[rows]], dtype=torch.int32, device=q.device)
        return paged_attention(q, self.k, self.v, self.tables[rows], *numbers, q.size(2) ** -0.5, window, **options)

    def expected(self, window: int) -> Tensor:
        parts = zip(self.q.split(self.lengths), self.tables.long(), self.contexts, strict=True)
        return torch.cat(
            [reference(q, self.k[t].flatten(0, 1), self.v[t].flatten(0, 1), n, window) for q, t, n in parts]
        )


MIXED = ([5, 1, 40, 1], [5, 33, 100, 1])
ANSWERS = ([1, 1, 1], [1, 77, 3 * LEAST_KEYS])  # whose keys are cut into shares


@pytest.mark.parametrize("window", [0, 1, 20])
@pytest.mark.parametrize("heads, size", [((7, 1), 64), ((6, 2), 48), ((2, 2), 128)])
@pytest.mark.parametrize("lengths, contexts", [MIXED, ANSWERS], ids=["mixed", "answers"])
def test_the_result_is_that_of_the_definition(device, lengths, contexts, heads, size, window):
    batch = Batch(lengths, contexts, heads, size, device=device)
    assert torch.allclose(batch.attend(window).double(), batch.expected(window), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths, contexts", [MIXED, ANSWERS], ids=["mixed", "answers"])
def test_half_the_bits_round_as_in_a_product(device, lengths, contexts):
    dtype = torch.float16 if device == "cpu" else torch.bfloat16  # the interpreter has no product in bfloat16
    batch = Batch(lengths, contexts, dtype=dtype, device=device)
    out, expected = batch.attend(), batch.expected(0)
    assert out.dtype == dtype
    assert (out.double() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("window", [0, 20])
def test_the_bits_of_a_token_depend_neither_on_the_batch_nor_on_its_chunk(device, window):
    batch = Batch(*MIXED, device=device)
    together = batch.attend(window, is_invariant=True)
    alone = [batch.attend(window, slice(row, row + 1), is_invariant=True) for row in range(4)]
    assert torch.equal(together, torch.cat(alone))
    batch.lengths, q = [1], batch.q  # the last token of the third sequence as an answer
    batch.contexts, batch.tables, batch.q = [100], batch.tables[2:3], q[45:46]
    assert torch.equal(batch.attend(window, is_invariant=True)[0], together[45])
