"""Attention in packs and rows on an accelerator: rewards and gradients are those of padded texts."""

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaConfig

from outweigh.data.packs import packs_of
from outweigh.models import attention
from outweigh.models.attention import How, TreeLayout
from outweigh.models.batches import read_texts
from outweigh.models.loading import reward_layer
from outweigh.models.packing import choose_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator on this machine"),
]


CUDA = torch.device("cuda")


def llama():
    config = LlamaConfig(
        vocab_size=100, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    config.num_labels = 1
    return config


def bert():
    return BertConfig(
        vocab_size=100, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


def some_texts():
    """Of which some begin alike."""
    prompts = torch.randint(3, 100, (8, 40)).tolist()
    return [
        prompt + torch.randint(3, 100, (size,)).tolist() for prompt in prompts for size in (5, 30, 90, 17)
    ]


def told_apart(model):
    """As drawn, texts' rewards are nearly one."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5 if weight.dim() == 2 else 1)
    return model


@pytest.mark.parametrize(
    ("made", "dtype", "apart"),
    [(llama, None, 1e-3), (llama, torch.bfloat16, 5e-2), (bert, torch.bfloat16, 5e-2)],
    ids=["llama, fp32", "llama, flash attention", "bert, flash attention"],
)
def test_rewards_and_gradients_are_those_of_padded_texts(made, dtype, apart, monkeypatch):
    torch.manual_seed(0)
    model = told_apart(AutoModelForSequenceClassification.from_config(made()).to(CUDA))
    layer, calls, real = reward_layer(model), [], attention.flash
    monkeypatch.setattr(attention, "flash", lambda *given: calls.append(1) or real(*given))
    texts, how = some_texts(), {"pad_token": 0, "device": CUDA, "max_tokens": 1000}
    padded = copy.deepcopy(model)
    packs = choose_attention(model, layer, CUDA, dtype, 256)
    assert packs
    calls.clear()
    # against full precision, of which padded texts in half precision are as far
    plain = read_texts(padded, reward_layer(padded), texts, packs=None, **how).rewards
    with torch.autocast("cuda", dtype or torch.float16, enabled=dtype is not None):
        found = read_texts(model, layer, texts, packs=packs, **how).rewards
    assert bool(calls) == (dtype is not None)
    assert plain.std() > 0.1
    torch.testing.assert_close(found, plain, rtol=apart, atol=apart * plain.abs().max().item())
    gradients = []
    for one, rewards in ((model, found), (padded, plain)):
        rewards.square().sum().backward()
        gradients.append(torch.cat([each.grad.flatten() for each in one.parameters()]))
    assert (gradients[0] - gradients[1]).norm() < apart * gradients[1].norm()


@pytest.mark.parametrize("sinks", [None, [0.5, -1.0, 2.0]], ids=["no sinks", "sinks"])
def test_flex_attention_and_its_gradients_are_those_of_the_plain_form(sinks):
    torch.manual_seed(0)
    (pack,) = packs_of(some_texts(), 10_000)
    layout = TreeLayout(pack, 0, CUDA, plain=True)
    given = torch.randn(4, 1, 3, len(pack.ids), 16, device=CUDA)
    kept = None if sinks is None else torch.tensor(sinks, device=CUDA)
    found = []
    for dtype in (torch.float32, torch.bfloat16):  # in full precision it is not used
        query, key, value = (each.to(dtype).requires_grad_() for each in given[:3])
        out = layout.attend(query, key, value, How(sinks=kept))
        (out * given[3]).sum().backward()
        found.append([out, query.grad, key.grad, value.grad])
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() < 2e-2 * one.norm()


def test_dropout_drops_as_much_as_it_says_and_what_it_leaves_is_scaled():
    (pack,) = packs_of(torch.randint(0, 9, (4, 500)).tolist(), 10_000)
    layout = TreeLayout(pack, 0, CUDA, plain=False)
    query = torch.zeros(1, 4, len(pack.ids), 32, device=CUDA, dtype=torch.bfloat16)
    found = attention.flash(query, query, torch.ones_like(query), layout, How(dropout=0.5))
    late = found[0, :, 400:500].float()  # sums of 400 shares and more, each dropped or doubled
    assert late.mean().item() == pytest.approx(1, abs=0.02)
    assert 0.02 < late.std().item() < 0.1


def test_padded_texts_are_not_attended_by_cudnn():
    model = AutoModelForSequenceClassification.from_config(llama()).to(CUDA)
    seen, taken = [], torch.backends.cuda.cudnn_sdp_enabled
    model.model.layers[0].register_forward_hook(lambda *_: seen.append(taken()))
    how = {"pad_token": 0, "device": CUDA, "max_tokens": 1000, "packs": None}
    read_texts(model, reward_layer(model), some_texts(), **how)
    assert seen and not any(seen)
