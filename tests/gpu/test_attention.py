"""Attention in packs and rows on an accelerator: rewards and gradients are those of padded texts."""

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, LlamaConfig

from outweigh.data.packs import packs_of
from outweigh.models import attention
from outweigh.models.attention import TreeLayout
from outweigh.models.batches import read_texts
from outweigh.models.flash import How, flash
from outweigh.models.loading import reward_layer
from outweigh.models.packing import choose_attention, takes_packs
from outweigh.models.rows import Rows

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
    monkeypatch.setattr(attention, "flash", lambda *given, **how: calls.append(1) or real(*given, **how))
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
    found = flash(query, query, torch.ones_like(query), layout.spans, How(dropout=0.5), causal=True)
    late = found[0, :, 400:500].float()  # sums of 400 shares and more, each dropped or doubled
    assert late.mean().item() == pytest.approx(1, abs=0.02)
    assert 0.02 < late.std().item() < 0.1


@pytest.mark.parametrize("packed", [True, False], ids=["packs", "padded"])
def test_a_backward_pass_that_computes_anew_takes_the_kernels_of_the_forward_pass(packed):
    torch.manual_seed(0)
    model = told_apart(AutoModelForSequenceClassification.from_config(llama()).to(CUDA)).train()
    layer, texts = reward_layer(model), some_texts()
    packs = choose_attention(model, layer, CUDA, torch.bfloat16, 256, packed=packed)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    how = {"pad_token": 0, "device": CUDA, "max_tokens": 1000, "packs": packs}
    gradients = []
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            read_texts(model, layer, texts, **how).rewards.sum().backward()
        gradients.append(torch.cat([each.grad.flatten() for each in model.parameters()]))
        model.zero_grad()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    assert (gradients[0] - gradients[1]).norm() < 2e-2 * gradients[0].norm()


def test_an_encoder_scores_in_rows():
    torch.manual_seed(0)
    model = told_apart(AutoModelForSequenceClassification.from_config(bert()).to(CUDA)).eval()
    layer, texts, how = (
        reward_layer(model),
        some_texts(),
        {"pad_token": 0, "device": CUDA, "max_tokens": 1000},
    )
    with torch.inference_mode():
        plain = read_texts(model, layer, texts, packs=None, **how).rewards
        packs = takes_packs(model, layer, 256, torch.bfloat16)
        assert isinstance(packs, Rows)
        with torch.autocast("cuda", torch.bfloat16):
            found = read_texts(model, layer, texts, packs=packs, **how).rewards
    torch.testing.assert_close(found, plain, rtol=5e-2, atol=5e-2 * plain.abs().max().item())
