"""The last layer of a pack computes what is read of it, and no more."""

import copy

import pytest
import torch
from tests.models.test_elementwise import SMALL, a_model
from transformers import GPTNeoXConfig, LlamaConfig, Qwen3Config

from outweigh.models.batches import read_texts
from outweigh.models.layers import _PackedLayer
from outweigh.models.loading import reward_layer
from outweigh.models.packing import takes_packs

CPU = torch.device("cpu")
BEGINNING = list(range(3, 15))
TEXTS = [[*BEGINNING, 20, 21, 22], [*BEGINNING, 30], [40, 41]]
TOKENS = len(BEGINNING) + 3 + 1 + 2


def read(model, **asked):
    layer = reward_layer(model)
    packs = takes_packs(model, layer, 64)
    assert packs is not None
    return read_texts(model, layer, TEXTS, pad_token=0, device=CPU, max_tokens=500, packs=packs, **asked)


def seen_by(model, name):
    """Tokens that come into a module, a number a call."""
    seen = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape[1])
    )
    return seen, hook


@pytest.mark.parametrize("config", [LlamaConfig(**SMALL), Qwen3Config(**SMALL)], ids=["llama", "qwen3"])
@pytest.mark.parametrize(
    ("asked", "few"), [({}, True), ({"features": True}, True), ({"token_rewards": True}, False)]
)
def test_of_the_last_layer_as_many_tokens_are_computed_as_are_read(config, asked, few):
    model = a_model(config)
    read(model)
    seen = {
        name: seen_by(model, f"model.layers.{name}")[0] for name in ("0.mlp", "1.mlp", "1.self_attn.k_proj")
    }
    read(model, **asked)
    padded = -(-TOKENS // 64) * 64
    # the first passes are of the texts by which packs are tried
    assert [each[-1] for each in seen.values()] == [padded, len(TEXTS) if few else padded, padded]


def test_every_tokens_reward_is_that_of_the_text_that_ends_there():
    model = a_model(LlamaConfig(**SMALL))
    found = read(model, token_rewards=True)
    torch.testing.assert_close(
        torch.stack([each[-1] for each in found.token_rewards]), read(model).rewards, rtol=1e-5, atol=1e-6
    )


def test_a_copy_keeps_its_layers_and_others_stay_as_they_are():
    model, other = (
        a_model(LlamaConfig(**SMALL)),
        a_model(
            GPTNeoXConfig(**{k: v for k, v in SMALL.items() if k not in ("head_dim", "num_key_value_heads")})
        ),
    )
    read(model), read(other)
    assert all(isinstance(layer, _PackedLayer) for layer in copy.deepcopy(model).model.layers)
    assert type(model.model.layers[0]).__name__ == "LlamaDecoderLayer"
    assert not any(isinstance(module, _PackedLayer) for module in other.modules())


def test_without_packs_the_layers_do_what_they_did():
    model, ids = a_model(LlamaConfig(**SMALL)), torch.tensor([TEXTS[0]])
    before = model(ids, output_hidden_states=True).hidden_states
    read(model)
    model.set_attn_implementation("sdpa")
    after = model(ids, output_hidden_states=True).hidden_states
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0)
