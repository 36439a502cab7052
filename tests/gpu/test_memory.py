"""A forward with its backward pass takes as many tokens as a GPU's memory has room for."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from outweigh.models.batches import GPU_TOKENS, read_texts
from outweigh.models.loading import reward_layer
from outweigh.models.packing import choose_attention
from outweigh.training.memory import fitting_tokens, reserved_bytes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator on this machine"),
]


@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
def test_tokens_are_as_many_as_fit_beside_what_is_reserved(checkpointed):
    device, left = torch.device("cuda"), 3 * 1024**3
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=512, intermediate_size=1408, num_hidden_layers=12, num_attention_heads=8,
        pad_token_id=0,
    )  # fmt: skip
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config).to(device).train()
    layer = reward_layer(model)
    packs = choose_attention(model, layer, device, torch.bfloat16, 512)
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})

    def rewards(texts):
        with torch.autocast("cuda", torch.bfloat16):
            how = {"pad_token": 0, "device": device, "max_tokens": None, "packs": packs}
            return read_texts(model, layer, texts, **how).rewards

    items = np.random.default_rng(0).integers(1, 1000, (40, 2, 250)).tolist()
    weights = list(model.parameters())
    reserved = reserved_bytes(weights, None, 0)
    assert fitting_tokens(rewards, items, weights, reserved, device, GPU_TOKENS) == GPU_TOKENS
    torch.cuda.empty_cache()
    filler = torch.empty(torch.cuda.mem_get_info()[0] - left, dtype=torch.uint8, device=device)
    tokens = fitting_tokens(rewards, items, weights, reserved, device, 1024 * GPU_TOKENS)
    assert tokens >= (4096 if checkpointed else 1024)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    rewards(np.resize(items, (tokens // 250, 250)).tolist()).sum().backward()
    used = torch.cuda.max_memory_allocated() - before
    assert 0.3 * left < used + reserved < left
    del filler
