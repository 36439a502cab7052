"""Layers that do less for packs, and cast early under autocast, compute what they did."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen3Config,
)

from outweigh.data.packs import packs_of
from outweigh.models import elementwise, plain
from outweigh.models.attention import TreeLayout
from outweigh.models.batches import read_texts
from outweigh.models.elementwise import cast_early
from outweigh.models.flash import How
from outweigh.models.layers import _PackedLayer
from outweigh.models.loading import reward_layer
from outweigh.models.packing import choose_attention, takes_packs

CPU = torch.device("cpu")
SMALL = {
    "vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "num_labels": 1,
}  # fmt: skip
WITHOUT_GROUPS = {
    name: value for name, value in SMALL.items() if name not in ("num_key_value_heads", "head_dim")
}
CONFIGS = pytest.mark.parametrize(
    "config", [LlamaConfig(**SMALL), Qwen3Config(**SMALL)], ids=["llama", "qwen3"]
)
BEGINNING = list(range(3, 15))
TEXTS = [[*BEGINNING, 20, 21, 22], [*BEGINNING, 30], [40, 41]]
TOKENS = len(BEGINNING) + 3 + 1 + 2


def a_model(config):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def having(model, mixed_in):
    return {name for name, module in model.named_modules() if isinstance(module, mixed_in)}


def test_a_norms_gradient_is_its_derivative():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: elementwise._rms_norm(*given, 0.1, x.dtype), (x, weight))


@CONFIGS
def test_norms_in_layers_and_positions_are_of_the_products_type_under_autocast(config):
    untouched, cast = a_model(config), a_model(config)
    cast_early(cast)
    norms = having(cast, elementwise._CastNorm)
    expected = {name for name, _ in untouched.named_modules() if ".layers." in name and name.endswith("norm")}
    assert norms == expected and len(norms) >= 4  # not the norm that the reward's layer reads
    hidden, places = 3 * torch.randn(2, 7, 24), torch.arange(7)[None]
    one, other = (model.model.layers[1].input_layernorm for model in (untouched, cast))
    turns = [model.model.rotary_emb for model in (untouched, cast)]
    with torch.autocast("cpu", torch.bfloat16):
        assert other(hidden).dtype is torch.bfloat16 and one(hidden).dtype is torch.float32
        torch.testing.assert_close(other(hidden), one(hidden).bfloat16(), rtol=2**-7, atol=1e-6)
        for before, after in zip(*(turn(hidden, places) for turn in turns), strict=True):
            torch.testing.assert_close(after, before.bfloat16(), rtol=0, atol=0)
        torch.testing.assert_close(
            cast.model.norm(hidden), untouched.model.norm(hidden), rtol=1e-6, atol=1e-6
        )
    torch.testing.assert_close(other(hidden), one(hidden), rtol=0, atol=0)  # full precision as it was
    assert turns[1](hidden, places)[0].dtype is torch.float32


def test_what_learns_by_cast_norms_learns_the_same_to_rounding():
    ids = torch.randint(1, 50, (4, 12), generator=torch.Generator().manual_seed(1))
    found = {}
    for way in ("float32", "autocast", "cast early"):
        model = a_model(LlamaConfig(**SMALL))
        if way == "cast early":
            cast_early(model)
            model = copy.deepcopy(model)  # which keeps it
            assert having(model, elementwise._CastNorm)
        with torch.autocast("cpu", torch.bfloat16, enabled=way != "float32"):
            reward = model(ids).logits.float().sum()
        reward.backward()
        found[way] = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    apart = {way: float((found[way] - found["float32"]).norm()) for way in ("autocast", "cast early")}
    assert 0 < apart["cast early"] < 1.5 * apart["autocast"]


def test_a_norm_that_computes_something_else_stays_as_it_is():
    model = a_model(GemmaConfig(**SMALL))  # multiplies with 1 + weight
    cast_early(model)
    assert not having(model, elementwise._CastNorm)
    assert having(model, elementwise._CastPositions) == {"model.rotary_emb"}


def test_cast_twice_is_cast_once():
    model = a_model(LlamaConfig(**SMALL))
    cast_early(model)
    kind = type(model.model.layers[0].input_layernorm)
    cast_early(model)
    assert type(model.model.layers[0].input_layernorm) is kind and kind.__name__ == "LlamaRMSNorm"


def read(model, **asked):
    layer = reward_layer(model)
    packs = takes_packs(model, layer, 64)
    assert packs is not None
    return read_texts(model, layer, TEXTS, pad_token=0, device=CPU, max_tokens=500, packs=packs, **asked)


def tokens_into(module):
    """How many come into a module, a number a call."""
    seen = []
    module.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    return seen


@CONFIGS
@pytest.mark.parametrize("asked", [{}, {"features": True}, {"token_rewards": True}], ids=str)
def test_of_the_last_layer_as_many_tokens_are_computed_as_are_read(config, asked):
    model = a_model(config)
    first, last = (tokens_into(layer.mlp) for layer in model.model.layers)
    keys = tokens_into(model.model.layers[1].self_attn.k_proj)
    read(model, **asked)
    padded = -(-TOKENS // 64) * 64
    # those before the last are of the texts by which packs are tried
    assert first[-1] == keys[-1] == padded
    assert last[-1] == (padded if "token_rewards" in asked else len(TEXTS))


def test_of_an_encoders_last_layer_its_texts_first_tokens_are_computed():
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(BertConfig(**WITHOUT_GROUPS)).eval()
    first, last = (tokens_into(layer.intermediate) for layer in model.bert.encoder.layer)
    layer = reward_layer(model)
    padded = read_texts(model, layer, TEXTS, pad_token=0, device=CPU, max_tokens=500, packs=None).rewards
    packs = choose_attention(model, layer, CPU, None, 64)
    found = read_texts(model, layer, TEXTS, pad_token=0, device=CPU, max_tokens=500, packs=packs).rewards
    torch.testing.assert_close(found, padded, rtol=1e-5, atol=1e-6)
    assert first[-1] == -(-sum(map(len, TEXTS)) // 64) * 64 and last[-1] == len(TEXTS)


def test_a_texts_reward_is_that_of_its_last_token():
    model = a_model(LlamaConfig(**SMALL))
    at_tokens = read(model, token_rewards=True).token_rewards
    last = torch.stack([each[-1] for each in at_tokens])
    torch.testing.assert_close(last, read(model).rewards, rtol=1e-5, atol=1e-6)


def test_a_copy_keeps_its_layers_and_others_stay_as_they_are():
    model, other = a_model(LlamaConfig(**SMALL)), a_model(GPTNeoXConfig(**WITHOUT_GROUPS))
    read(model)
    read(other)
    assert all(isinstance(layer, _PackedLayer) for layer in copy.deepcopy(model).model.layers)
    assert type(model.model.layers[0]).__name__ == "LlamaDecoderLayer"
    assert not having(other, _PackedLayer)


def test_without_packs_layers_do_what_they_did():
    model, ids = a_model(LlamaConfig(**SMALL)), torch.tensor([TEXTS[0]])
    model.set_attn_implementation("sdpa")
    before = model(ids, output_hidden_states=True).hidden_states
    read(model)
    model.set_attn_implementation("sdpa")
    after = model(ids, output_hidden_states=True).hidden_states
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0)


class OtherRMSNorm(torch.nn.Module):
    """What a repository's own code may bring: the same name, and more than one argument."""

    def __init__(self):
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.ones(4)), 1e-6

    def forward(self, x, gate):
        return x * gate


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_of_another_library_or_type_stays_as_it_is(dtype):
    model = torch.nn.ModuleList([OtherRMSNorm(), a_model(LlamaConfig(**SMALL)).model.norm.to(dtype)])
    before = [type(module) for module in model]
    cast_early(model)
    changed = [type(module) is not kind for module, kind in zip(model, before, strict=True)]
    assert changed == [False, dtype is torch.float32]


@pytest.mark.parametrize("learns", [True, False])
def test_without_a_gradient_attention_with_sinks_is_asked_for_none(learns, monkeypatch):
    # it keeps what it computes where one of the tensors that it is given has a gradient
    (pack,) = packs_of([[*BEGINNING, 20, 21], [*BEGINNING, 30]], 100)
    layout, given = TreeLayout(pack, 0, CPU, plain=True), []
    query, key, value = torch.randn(3, 1, 2, len(pack.ids), 8)
    real = plain._PlainAttention.apply
    monkeypatch.setattr(plain._PlainAttention, "apply", lambda *each: given.extend(each) or real(*each))
    with torch.set_grad_enabled(learns):
        layout.attend(query, key, value, How(sinks=torch.nn.Parameter(torch.zeros(2))))
    assert any(each.requires_grad for each in given if isinstance(each, torch.Tensor)) == learns
