import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from qianwen.model.loss import chunked_cross_entropy, chunked_divergence


def inputs(rows=(3, 7), hidden=8, vocab=11, dtype=torch.double, ignored=4):
    h = torch.randn(*rows, hidden, dtype=dtype, requires_grad=True)
    w = torch.randn(vocab, hidden, dtype=dtype, requires_grad=True)
    labels = torch.randint(vocab, rows)
    labels.view(-1)[:ignored] = -100
    return h, w, labels


def naive(hidden, weight, labels):
    return F.cross_entropy((hidden @ weight.T).flatten(0, -2).float(), labels.flatten(), reduction="sum")


@pytest.mark.parametrize("chunk_size", [1, 4, 17, 1000])
def test_loss_and_gradients_equal_those_of_torch(chunk_size):
    h, w, labels = inputs(dtype=torch.float32)
    loss, num_tokens = chunked_cross_entropy(h, w, labels, chunk_size=chunk_size)
    assert num_tokens == 17
    torch.testing.assert_close(loss, naive(h, w, labels))
    ours = torch.autograd.grad(loss / 3, (h, w))
    theirs = torch.autograd.grad(naive(h, w, labels) / 3, (h, w))
    torch.testing.assert_close(ours, theirs)
    assert not ours[0].view(21, 8)[:4].any()


def test_gradcheck():
    h, w, labels = inputs()
    assert torch.autograd.gradcheck(lambda h, w: chunked_cross_entropy(h, w, labels, chunk_size=5)[0], (h, w))


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input_gets_no_gradient(frozen):
    h, w, labels = inputs(dtype=torch.float32)
    (h, w)[frozen].requires_grad_(False)
    free = (h, w)[1 - frozen]
    ours = torch.autograd.grad(chunked_cross_entropy(h, w, labels, chunk_size=4)[0], free)
    torch.testing.assert_close(ours, torch.autograd.grad(naive(h, w, labels), free))


def test_no_graph_without_gradients():
    h, w, labels = inputs()
    with torch.no_grad():
        loss, _ = chunked_cross_entropy(h, w, labels)
    assert not loss.requires_grad
    torch.testing.assert_close(loss.float(), naive(h, w, labels))


def test_a_batch_without_labels():
    h, w, labels = inputs(ignored=21)
    loss, num_tokens = chunked_cross_entropy(h, w, labels)
    loss.backward()
    assert loss == 0 == num_tokens and not h.grad.any() and not w.grad.any()


def test_bf16_uses_fp32_statistics():
    """The loss is that of fp32 within the rounding of the scores; summing 4,000 terms in bf16 would be 1 % off."""
    h, w, labels = inputs((4000,), 32, 50, torch.bfloat16)
    loss, _ = chunked_cross_entropy(h, w, labels, chunk_size=512)
    loss.backward()
    assert loss.dtype == torch.float32 and h.grad.dtype == w.grad.dtype == torch.bfloat16
    h32, w32 = (x.detach().float().requires_grad_() for x in (h, w))
    expected = naive(h32, w32, labels)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    torch.testing.assert_close(w.grad.float(), w32.grad, rtol=0.02, atol=0.02 * w32.grad.abs().max().item())


def test_products_use_the_autocast_dtype():
    h, w, labels = inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = chunked_cross_entropy(h, w, labels)
    loss.backward()
    assert loss.dtype == torch.float32 and w.grad.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(h, w, labels).item(), rel=2e-2)


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def test_all_logits_are_never_in_memory():
    h, w, labels = inputs((400,), 16, 500, torch.float32)
    with LargestTensor() as largest:
        loss, _ = chunked_cross_entropy(h, w, labels, chunk_size=20)
        loss.backward()
    assert largest.numel == 20 * 500


def test_backward_may_run_twice():
    h, w, labels = inputs()
    loss, _ = chunked_cross_entropy(h, w, labels)
    first = torch.autograd.grad(loss, w, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(2 * loss, w), (2 * first[0],))


class RowsMultiplied(TorchDispatchMode):
    """How many rows of hidden states each product with the head takes."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten.mm and args[0].size(1) == 8:
            self.found.add(args[0].size(0))
        return func(*args, **(kwargs or {}))


def test_products_have_few_sizes_for_any_number_of_labels():
    with RowsMultiplied() as rows:
        for ignored in range(1, 150, 7):
            h, w, labels = inputs((300,), dtype=torch.float32, ignored=ignored)
            loss, num_tokens = chunked_cross_entropy(h, w, labels)
            assert num_tokens == 300 - ignored
            torch.testing.assert_close(loss, naive(h, w, labels))
    assert rows.found == {192, 256, 300}


def divergence(hidden, wanted, weight):
    q, p = ((states @ weight.T).log_softmax(-1) for states in (hidden, wanted))
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize("chunk_size", [1, 4, 17, 0])
def test_divergence_and_gradient_equal_those_of_torch(chunk_size):
    h, w, _ = inputs()
    other = torch.randn_like(h)
    ours, theirs = chunked_divergence(h, other, w, chunk_size=chunk_size), divergence(h, other, w)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours / 3, h), torch.autograd.grad(theirs / 3, h))


def test_the_divergence_from_itself_is_zero():
    h, w, _ = inputs()
    loss = chunked_divergence(h, h, w)
    loss.backward()
    assert abs(loss) < 1e-12 and h.grad.abs().max() < 1e-12 and w.grad is None
