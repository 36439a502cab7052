"""Of one pack, attention in every form is the same."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from torch.utils._python_dispatch import TorchDispatchMode

from outweigh.data.packs import packs_of
from outweigh.models import plain as plain_module
from outweigh.models.attention import RowLayout, TreeLayout
from outweigh.models.flash import How, flash, flash_sizes
from outweigh.models.plain import ROUND

CPU = torch.device("cpu")
FILLER = 7


def a_pack():
    """Trees of 3, 2 and 1 texts, of more tokens than a block of FlexAttention has."""
    rng = np.random.default_rng(0)
    texts = []
    for responses in (3, 2, 1):
        prompt = rng.integers(0, 100, 60).tolist()
        texts += [prompt + rng.integers(0, 100, size).tolist() for size in rng.integers(5, 90, responses)]
    (pack,) = packs_of(texts, 10_000)
    return pack


@pytest.mark.parametrize("sinks", [None, torch.tensor([-1.0, 0.5, 3.0])], ids=["no sinks", "sinks"])
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_flex_attention_sees_what_the_plain_form_sees(dtype, apart, sinks):
    # uncompiled, forward alone: FlexAttention has no backward pass on a CPU
    pack = a_pack()
    torch.manual_seed(0)
    tokens = len(pack.ids)
    query, key, value = torch.randn(3, 1, 3, tokens + FILLER, 8, dtype=dtype)
    how = How(scale=0.3, sinks=None if sinks is None else sinks.to(dtype))
    layout = TreeLayout(pack, FILLER, CPU, plain=True)
    plain = layout.attend(query, key, value, how)
    assert plain.shape == query.shape
    found = layout.flexible(query, key, value, how, flex_attention)
    assert tokens > 2 * layout.blocks.BLOCK_SIZE[0]
    torch.testing.assert_close(found[:, :, :tokens], plain[:, :, :tokens], rtol=apart, atol=apart)
    fused = TreeLayout(pack, FILLER, CPU, plain=False).attend(query, key, value, how)
    torch.testing.assert_close(fused[:, :, :tokens], plain[:, :, :tokens], rtol=apart, atol=apart)


@pytest.mark.parametrize("more", [[], [[7, 8]]], ids=["one tree", "a text alone beside it"])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("learns", [True, False])
def test_what_texts_share_and_what_is_their_own_are_attended_as_one(learns, plain, more):
    # many texts that share much are merged by sums of the softmax, where there is no gradient
    beginning = list(range(30))
    texts = [[*beginning, *range(100 * at, 100 * at + size)] for at, size in enumerate((9, 1, 40, 17), 1)]
    (pack,) = packs_of([*texts, *more], 10_000)
    torch.manual_seed(0)
    tokens = len(pack.ids)
    query = torch.randn(1, 6, tokens + FILLER, 8, dtype=torch.float64)
    key, value = torch.randn(2, 1, 3, tokens + FILLER, 8, dtype=torch.float64)
    layout, how = TreeLayout(pack, FILLER, CPU, plain=plain), How(0.3)
    with torch.set_grad_enabled(learns), Operations() as seen:
        found = layout.attend(query, key, value, how)
        ends = layout.attend_ends(query[:, :, layout.ends], key, value, how)
    assert ("_scaled_dot_product_flash_attention_for_cpu.default" in seen.names) == (not plain)
    expected = reference(pack, *(each[0, :, :tokens] for each in (query, key, value)), how.scale)
    torch.testing.assert_close(found[0, :, :tokens], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ends[0], expected[:, layout.ends], rtol=1e-12, atol=1e-12)


def reference(pack, query, key, value, scale):
    """By one mask over all tokens, (heads, T, D) each."""
    key, value = (each.repeat_interleave(len(query) // len(key), 0) for each in (key, value))
    seen = torch.zeros(len(pack.ids), len(pack.ids), dtype=torch.bool)
    for row in pack.rows():
        seen[np.ix_(row, row)] |= torch.ones(len(row), len(row), dtype=torch.bool).tril()
    score = (query @ key.mT * scale).masked_fill(~seen, -torch.inf)
    return score.softmax(-1) @ value


def flash_in_turn(q, k, v, q_begin, k_begin, most_q, most_k, dropout, causal, debug, *, scale):
    """What torch's flash attention for texts of unlike lengths does, which no CPU has, a text at a time."""
    assert not dropout and not debug
    assert most_q == q_begin.diff().max() and most_k == k_begin.diff().max()
    found = []
    for (q0, q1), (k0, k1) in zip(pairwise(q_begin.tolist()), pairwise(k_begin.tolist()), strict=True):
        query, key, value = (each.transpose(0, 1) for each in (q[q0:q1], k[k0:k1], v[k0:k1]))
        key, value = (each.repeat_interleave(len(query) // len(each), 0) for each in (key, value))
        score = query @ key.mT * (query.shape[2] ** -0.5 if scale is None else scale)
        seen = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril(k1 - k0 - (q1 - q0))
        score = score.masked_fill(~seen, -torch.inf) if causal else score
        found.append((score.softmax(-1) @ value).transpose(0, 1))
    return (torch.cat(found),)


@pytest.mark.parametrize("kind", ["trees", "texts alone", "rows"])
@pytest.mark.parametrize("filler", [0, FILLER])
def test_flash_attention_is_told_which_queries_see_which_keys(kind, filler, monkeypatch):
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", flash_in_turn)
    lengths = [30, 21, 9, 8]
    if kind == "rows":
        tokens, plain = sum(lengths), RowLayout([np.array(lengths)], filler, CPU, plain=True)
    else:
        pack = a_pack() if kind == "trees" else packs_of([[*range(size)][::-1] for size in lengths], 1000)[0]
        tokens, plain = len(pack.ids), TreeLayout(pack, filler, CPU, plain=True)
    assert (plain.spans.keys is None) == (kind != "trees")
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, tokens + filler, 8) for heads in (6, 2, 2))
    how = How(scale=0.3)
    found = flash(query, key, value, plain.spans, how, causal=plain.causal)
    assert found.shape == query.shape
    expected = plain.attend(query, *(each.repeat_interleave(3, 1) for each in (key, value)), how)
    torch.testing.assert_close(found[:, :, :tokens], expected[:, :, :tokens], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learns", [True, False])
def test_plain_attention_has_products_of_few_sizes(learns):
    # each other size costs a CPU milliseconds and memory that is not given back
    pack = a_pack()
    query, key, value = torch.randn(3, 1, 3, len(pack.ids), 8, requires_grad=learns)
    with Products() as seen:
        found = TreeLayout(pack, 0, CPU, plain=True).attend(query, key, value, How())
        if learns:
            found.sum().backward()
    assert len(seen.sizes) >= (6 if learns else 2) * sum(len(tree.own) for tree in pack.trees)
    assert all(size % ROUND == 0 for sizes in seen.sizes for size in sizes if size != 8)


@pytest.mark.parametrize(
    ("capability", "sizes"),
    [
        ((7, 5), []),
        ((8, 0), [64, 128, 256]),
        ((8, 6), [64, 128]),
        ((9, 0), [64, 128, 256]),
        ((12, 0), [64, 128]),
    ],
)
def test_flash_attention_is_asked_for_heads_that_the_gpu_takes_with_their_backward_pass(
    capability, sizes, monkeypatch
):
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found = flash_sizes.__wrapped__(torch.device("cuda"))
    assert [size for size in (64, 100, 128, 256) if size in found] == sizes
    assert not flash_sizes(CPU)


class Operations(TorchDispatchMode):
    """Keeps the names of the operations in its block."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.__name__)
        return function(*args, **(kwargs or {}))


class Products(TorchDispatchMode):
    """Keeps the sizes of the batched matrix products in its block."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.bmm.default:
            self.sizes.append((*args[0].shape[1:], args[1].shape[2]))
        return function(*args, **(kwargs or {}))


def test_a_sink_takes_the_share_that_its_score_is_worth():
    # one token sees itself, score 0; a sink of log 3 leaves it 1 / (1 + 3) of its value
    (pack,) = packs_of([[5]], 10)
    zero, value = torch.zeros(1, 1, 1, 8), torch.full((1, 1, 1, 8), 8.0)
    how = How(sinks=torch.tensor([3.0]).log())
    layout = TreeLayout(pack, 0, CPU, plain=True)
    for found in (
        layout.attend(zero, zero, value, how),
        layout.flexible(zero, zero, value, how, flex_attention),
    ):
        torch.testing.assert_close(found, torch.full_like(value, 2.0))


@pytest.mark.parametrize("queries", [4, 256])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_plain_attentions_gradient_is_its_derivative(queries, dropout, with_sinks, monkeypatch):
    # two query heads for each of two key heads, values of another size, several blocks of queries a text
    monkeypatch.setattr(plain_module, "QUERIES", queries)
    monkeypatch.setattr(plain_module, "ROUND", 4)
    beginning = list(range(9))
    (pack,) = packs_of([[*beginning, 20, 21], [*beginning, 30, 31, 32], [40, 41], [50]], 100)
    layout = TreeLayout(pack, FILLER, CPU, plain=True)
    tokens = len(pack.ids) + FILLER
    torch.manual_seed(0)
    shapes = [(1, 4, tokens, 2), (1, 2, tokens, 2), (1, 2, tokens, 3)]
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    sinks = [torch.randn(4, dtype=torch.float64, requires_grad=True)] if with_sinks else []

    def attend(query, key, value, *sinks):
        torch.manual_seed(1)  # the same dropout each time
        return layout.attend(query, key, value, How(0.7, dropout, *sinks))

    assert attend(*given, *sinks).shape == (1, 4, tokens, 3)
    assert torch.autograd.gradcheck(attend, [*given, *sinks])
