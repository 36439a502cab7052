"""FlexAttention on an accelerator: rewards and gradients are those of padded texts."""

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from outweigh.models.attention import TreeLayout
from outweigh.models.batches import read_texts
from outweigh.models.loading import reward_layer
from outweigh.models.packing import choose_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator on this machine"),
]


@pytest.mark.parametrize(("dtype", "apart"), [(None, 1e-3), (torch.bfloat16, 5e-2)], ids=["fp32", "bf16"])
def test_rewards_and_gradients_in_packs_are_those_of_padded_texts(dtype, apart, monkeypatch):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    config.num_labels = 1
    device = torch.device("cuda")
    model = AutoModelForSequenceClassification.from_config(config).to(device)
    layer, calls, real = reward_layer(model), [], TreeLayout.flexible
    monkeypatch.setattr(TreeLayout, "flexible", lambda *given: calls.append(1) or real(*given))
    prompts = torch.randint(3, 100, (8, 40)).tolist()
    texts = [
        prompt + torch.randint(3, 100, (size,)).tolist() for prompt in prompts for size in (5, 30, 90, 17)
    ]
    how = {"pad_token": 0, "device": device, "max_tokens": 1000}
    padded = copy.deepcopy(model)
    packs = choose_attention(model, layer, device, dtype, 256)
    assert packs
    with torch.autocast("cuda", dtype or torch.float16, enabled=dtype is not None):
        plain = read_texts(padded, reward_layer(padded), texts, packs=None, **how).rewards
        calls.clear()
        found = read_texts(model, layer, texts, packs=packs, **how).rewards
    assert calls
    torch.testing.assert_close(found, plain, rtol=apart, atol=apart)
    gradients = []
    for one, rewards in ((model, found), (padded, plain)):
        rewards.square().sum().backward()
        gradients.append(torch.cat([each.grad.flatten() for each in one.parameters()]))
    assert (gradients[0] - gradients[1]).norm() < apart * gradients[1].norm()
