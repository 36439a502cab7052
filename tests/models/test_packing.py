"""Packs change nothing but speed: rewards, gradients and log-probabilities are those of padded texts."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    BloomConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from outweigh.models import packing
from outweigh.models.attention import PACKED
from outweigh.models.batches import read_texts
from outweigh.models.loading import head_of, load_classifier, load_tokenizer, reward_layer
from outweigh.models.packing import EAGER_TOKENS, choose_attention, takes_packs
from outweigh.models.policy import log_probabilities
from outweigh.models.reward import RewardModel
from outweigh.models.rows import Rows, Trees, row_places
from outweigh.training.config import TrainConfig
from outweigh.training.method import trainable

CPU = torch.device("cpu")
COMMON = {"vocab_size": 100, "num_labels": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = COMMON | {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "head_dim": 8,
}  # fmt: skip
NEOX = {name: value for name, value in LLAMA.items() if name not in ("num_key_value_heads", "head_dim")}
GPT2 = COMMON | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
OPT = COMMON | {
    "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "word_embed_proj_dim": 32,
}  # fmt: skip
PACKABLE = {
    "llama": LlamaConfig(**LLAMA),
    "llama, scaled rotary": LlamaConfig(
        **LLAMA, rope_scaling={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    ),
    "llama, stretched rotary": LlamaConfig(
        **LLAMA,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
            "rope_theta": 1e4,
        },
    ),
    "llama, yarn": LlamaConfig(
        **LLAMA,
        rope_scaling={
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "rope_theta": 1e4,
        },
    ),
    "qwen2": Qwen2Config(**LLAMA),
    "qwen3": Qwen3Config(**LLAMA),
    "gemma": GemmaConfig(**LLAMA),
    "mistral": MistralConfig(**LLAMA),
    "phi3": Phi3Config(**{name: value for name, value in LLAMA.items() if name != "head_dim"}),
    "gpt-neox": GPTNeoXConfig(**NEOX),
    "gpt2": GPT2Config(**GPT2),
    "opt": OPTConfig(**OPT),
    "gpt-oss, sinks": GptOssConfig(
        **LLAMA,
        num_local_experts=2,
        num_experts_per_tok=1,
        sliding_window=1000,
        experts_implementation="eager",
    ),
}
NOT_PACKABLE = {
    "a window": MistralConfig(**LLAMA, sliding_window=64),
    "windows in some layers": Gemma3TextConfig(**LLAMA, sliding_window=64),
    "capped scores": Gemma2Config(**LLAMA, sliding_window=1000),
    "distances in the scores": BloomConfig(**COMMON, hidden_size=32, n_layer=2, n_head=4),
}
ENCODER = {
    "vocab_size": 100, "num_labels": 1, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 256,
}  # fmt: skip
ENCODERS = {
    "bert": BertConfig(**ENCODER),
    "roberta": RobertaConfig(**ENCODER),
    "xlm-roberta": XLMRobertaConfig(**ENCODER),
    "electra": ElectraConfig(**ENCODER, embedding_size=16),
}
PADDED_ENCODERS = {
    "no reader of first tokens": DistilBertConfig(
        vocab_size=100, num_labels=1, dim=32, n_layers=2, n_heads=4, hidden_dim=64
    ),
    "attention of its own": DebertaV2Config(
        **ENCODER, pooler_hidden_size=32, relative_attention=True, pos_att_type=["p2c", "c2p"]
    ),
}


def some_texts():
    rng = np.random.default_rng(0)
    texts = []
    for responses in (3, 2, 1, 2):
        prompt = rng.integers(3, 100, rng.integers(9, 30)).tolist()
        texts += [prompt + rng.integers(3, 100, rng.integers(1, 20)).tolist() for _ in range(responses)]
    texts += [texts[0], texts[1][:-1] or [5]]  # one stands twice, one goes on in another
    return [texts[place] for place in rng.permutation(len(texts))]


def made(kind, config):
    torch.manual_seed(0)
    model = kind.from_config(copy.deepcopy(config)).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


@pytest.fixture
def exact_norms(monkeypatch):
    """Norms that stay float64: the architectures cast to float32 within them, which is all that differs."""
    real = torch.Tensor.to

    def to(self, *args, **kwargs):
        down = self.dtype is torch.float64 and torch.float32 in (*args, kwargs.get("dtype"))
        return self if down else real(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)


def gradient_of(model, value):
    weights = [each for each in model.parameters() if each.requires_grad]
    found = torch.autograd.grad(value, weights, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(weight).flatten() if each is None else each.flatten()
            for weight, each in zip(weights, found, strict=True)
        ]
    )


@pytest.mark.parametrize(("budget", "plain"), [(1, False), (60, True), (60, False), (10_000, True)])
@pytest.mark.parametrize("name", PACKABLE)
def test_rewards_and_gradients_in_packs_are_those_of_padded_texts(
    name, budget, plain, exact_norms, monkeypatch
):
    monkeypatch.setattr("outweigh.models.plain.QUERIES", 8)
    monkeypatch.setattr("outweigh.models.plain.ROUND", 4)
    model, texts = made(AutoModelForSequenceClassification, PACKABLE[name]), some_texts()
    how = {"pad_token": 0, "device": CPU, "features": True, "token_rewards": True}
    layer = reward_layer(model)
    padded = read_texts(model, layer, texts, packs=None, max_tokens=10_000, **how)
    each = torch.arange(1, 1 + len(texts), dtype=torch.float64)
    gradient = gradient_of(model, (each * padded.rewards).sum())
    assert takes_packs(model, layer, 256)
    packed = read_texts(model, layer, texts, packs=Trees(plain=plain), max_tokens=budget, **how)
    torch.testing.assert_close(packed.rewards, padded.rewards, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(packed.features, padded.features, rtol=1e-10, atol=1e-10)
    for one, other in zip(packed.token_rewards, padded.token_rewards, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    found = gradient_of(model, (each * packed.rewards).sum())
    torch.testing.assert_close(found, gradient, rtol=1e-8, atol=1e-8 * gradient.abs().max().item())


@pytest.mark.parametrize("name", PACKABLE)
def test_log_probabilities_in_packs_are_those_of_padded_texts(name, exact_norms):
    model, texts = made(AutoModelForCausalLM, PACKABLE[name]), some_texts()
    starts = [min(9, len(text) - 1) for text in texts]
    how = {"pad_token": 0, "device": CPU, "max_tokens": 150}
    padded = log_probabilities(model, texts, starts, packs=None, **how)
    gradient = gradient_of(model, padded.sum())
    assert takes_packs(model, model.get_output_embeddings(), 256)
    packed = log_probabilities(model, texts, starts, packs=Trees(), **how)
    torch.testing.assert_close(packed, padded, rtol=1e-10, atol=1e-10)
    found = gradient_of(model, packed.sum())
    torch.testing.assert_close(found, gradient, rtol=1e-8, atol=1e-8 * gradient.abs().max().item())


def test_a_model_without_a_pad_token_takes_packs():
    config = copy.deepcopy(PACKABLE["llama"])
    config.pad_token_id = None
    model = made(AutoModelForCausalLM, config)
    assert takes_packs(model, model.get_output_embeddings(), 256) == Trees()


def test_rotary_positions_that_follow_the_longest_text_of_a_row_take_no_packs_past_their_limit(caplog):
    """In a pack the others of the row would be read by its positions."""
    config = LlamaConfig(
        **LLAMA | {"max_position_embeddings": 64},
        rope_scaling={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
    )
    model = made(AutoModelForSequenceClassification, config).float()
    layer, how = reward_layer(model), {"pad_token": 0, "device": CPU, "max_tokens": 1000}
    short, long = [5, 6, 7, 8], [9] * 120
    alone = read_texts(model, layer, [short], packs=None, **how).rewards
    assert takes_packs(model, layer, 64) == Trees()
    beside = read_texts(model, layer, [short, long], packs=Trees(), **how).rewards[:1]
    assert (beside - alone).abs() > 1e-5  # what is kept from happening
    assert takes_packs(model, layer, 128) is None
    assert "its rotary positions are others beside a text of over 64 tokens" in caplog.text


@pytest.mark.parametrize("name", NOT_PACKABLE)
def test_what_looks_back_otherwise_is_padded_and_that_is_said(name, caplog):
    model, texts = made(AutoModelForSequenceClassification, NOT_PACKABLE[name]).float(), some_texts()
    layer, how = reward_layer(model), {"pad_token": 0, "device": CPU, "max_tokens": 1000, "packs": None}
    before = read_texts(model, layer, texts, **how).rewards
    assert not takes_packs(model, layer, 256)
    torch.testing.assert_close(read_texts(model, layer, texts, **how).rewards, before, rtol=0, atol=0)
    assert "takes no packs, " in caplog.text


def test_a_window_that_no_text_reaches_is_none():
    model = made(AutoModelForSequenceClassification, MistralConfig(**LLAMA, sliding_window=64))
    assert takes_packs(model, reward_layer(model), 64)


def test_a_model_that_wants_an_eos_in_every_text_is_padded_and_that_is_said(caplog):
    size = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 100, "num_labels": 1}
    feed = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    model = made(AutoModelForSequenceClassification, BartConfig(**size, **feed, **heads)).float()
    before = model.config._attn_implementation
    assert not takes_packs(model.train(), reward_layer(model), 256)
    assert model.training and model.config._attn_implementation == before
    assert "takes no packs, Each example must contain at least one <eos> token. Padded" in caplog.text


@pytest.mark.parametrize("budget", [1, 60, 10_000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, None], ids=["plain attention", "fused attention"])
@pytest.mark.parametrize("name", ENCODERS)
def test_rewards_and_gradients_in_rows_are_those_of_padded_texts(name, dtype, budget):
    model, texts = made(AutoModelForSequenceClassification, ENCODERS[name]), some_texts()
    pad_token = model.config.pad_token_id
    texts[2][1] = pad_token  # as some vocabularies read it out of a text that has it in letters
    layer, how = reward_layer(model), {"pad_token": pad_token, "device": CPU, "features": True}
    padded = read_texts(model, layer, texts, packs=None, max_tokens=10_000, **how)
    each = torch.arange(1, 1 + len(texts), dtype=torch.float64)
    gradient = gradient_of(model, (each * padded.rewards).sum())
    rows = choose_attention(model, layer, CPU, dtype, 256)
    assert rows.plain == (dtype is not None)
    found = read_texts(model, layer, texts, packs=rows, max_tokens=budget, **how)
    torch.testing.assert_close(found.rewards, padded.rewards, rtol=1e-6, atol=1e-6)  # float32, both
    torch.testing.assert_close(found.features, padded.features, rtol=1e-6, atol=1e-6)
    in_rows = gradient_of(model, (each * found.rewards).sum())
    torch.testing.assert_close(in_rows, gradient, rtol=1e-8, atol=1e-8 * gradient.abs().max().item())


def test_in_float64_rewards_in_rows_are_those_of_padded_texts_to_ten_digits(exact_norms):
    model, texts = made(AutoModelForSequenceClassification, ENCODERS["bert"]), some_texts()
    layer, how = reward_layer(model), {"pad_token": 0, "device": CPU, "max_tokens": 60}
    padded = read_texts(model, layer, texts, packs=None, **how).rewards
    rows = choose_attention(model, layer, CPU, None, 256)
    found = read_texts(model, layer, texts, packs=rows, **how).rewards
    assert found.dtype is torch.float64
    torch.testing.assert_close(found, padded, rtol=1e-10, atol=1e-10)


def test_adapters_and_the_head_beside_them_learn_in_rows_what_they_do_padded():
    model = made(AutoModelForSequenceClassification, ENCODERS["roberta"])
    model = trainable(model, TrainConfig(method="lora")).double().eval()
    layer, texts = reward_layer(model), some_texts()
    how = {"pad_token": 1, "device": CPU, "max_tokens": 100}
    padded = gradient_of(model, read_texts(model, layer, texts, packs=None, **how).rewards.square().sum())
    rows = choose_attention(model, layer, CPU, None, 256)
    found = gradient_of(model, read_texts(model, layer, texts, packs=rows, **how).rewards.square().sum())
    assert rows and padded.abs().max() > 0
    torch.testing.assert_close(found, padded, rtol=1e-6, atol=1e-6 * padded.abs().max().item())


def test_a_text_of_no_tokens_is_refused_in_rows():
    model = made(AutoModelForSequenceClassification, ENCODERS["bert"])
    rows = choose_attention(model, reward_layer(model), CPU, None, 256)
    with pytest.raises(ValueError, match="got no token in text 1"):
        list(rows.forwards([[5, 6], [], [7]], 100, CPU))


def test_where_packs_are_not_wanted_an_encoder_attends_as_is_fastest_padded(tiny_bert):
    model = load_classifier(tiny_bert, load_tokenizer(tiny_bert))
    assert choose_attention(model, reward_layer(model), CPU, torch.bfloat16, 256, packed=False) is None
    assert model.config._attn_implementation == "eager"


def test_a_model_with_adapters_is_named_by_its_own_name(caplog):
    model = trainable(
        made(AutoModelForSequenceClassification, PADDED_ENCODERS["no reader of first tokens"]).float(),
        TrainConfig(method="lora"),
    )
    assert choose_attention(model, reward_layer(model), CPU, None, 256) is None
    assert "DistilBertForSequenceClassification: takes no packs" in caplog.text


def test_rows_hold_each_text_once_and_are_of_like_size():
    lengths = np.random.default_rng(0).integers(1, 100, 200)
    rows = row_places(lengths, 1000)
    assert sorted(np.concatenate(rows)) == list(range(200))
    sizes = [lengths[places].sum() for places in rows]
    assert len(sizes) == -(-lengths.sum() // 1000)
    assert max(sizes) - min(sizes) < 2 * 100 and max(sizes) < 1000 + 100


@pytest.mark.parametrize("name", PADDED_ENCODERS)
def test_an_encoder_that_takes_no_rows_is_padded_as_before_and_that_is_said(name, caplog):
    model = made(AutoModelForSequenceClassification, PADDED_ENCODERS[name]).float()
    layer, how = reward_layer(model), {"pad_token": 0, "device": CPU, "max_tokens": 1000, "packs": None}
    before = read_texts(model, layer, some_texts(), **how).rewards
    assert choose_attention(model, layer, CPU, None, 256) is None
    after = read_texts(model, layer, some_texts(), **how).rewards
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert "takes no packs, " in caplog.text


def test_an_encoder_takes_rows_where_they_pay_and_says_nothing_where_not(tiny_bert, caplog, monkeypatch):
    model = load_classifier(tiny_bert, load_tokenizer(tiny_bert))
    layer, cuda, switched = reward_layer(model), torch.device("cuda"), []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", switched.append)
    assert takes_packs(model, layer, 256) is None  # on a CPU, to score
    assert choose_attention(model, layer, CPU, torch.bfloat16, 256) is not None
    assert not switched
    for sizes, taken in ((range(0), None), (range(8, 257, 8), Rows)):  # of heads, by flash attention
        monkeypatch.setattr(packing, "flash_sizes", lambda device, sizes=sizes: sizes)
        for dtype, kind in ((None, None), (torch.bfloat16, taken)):
            found = choose_attention(model, layer, cuda, dtype, 256)
            assert found is None if kind is None else isinstance(found, kind)
    assert not caplog.records
    assert switched and not any(switched)  # cuDNN's attention, each time a GPU is chosen for


def test_dropout_in_rows_drops_and_checkpointing_gives_the_same_gradients(tiny_bert):
    torch.manual_seed(0)
    model = load_classifier(tiny_bert, load_tokenizer(tiny_bert), dropout=0.5).train()
    layer, texts = reward_layer(model), some_texts()
    rows = choose_attention(model, layer, CPU, torch.bfloat16, 256)
    read = partial(read_texts, model, layer, texts, pad_token=0, device=CPU, max_tokens=100, packs=rows)
    assert not torch.equal(read().rewards, read().rewards)
    model.eval()
    assert torch.equal(read().rewards, read().rewards)
    plain = gradient_of(model, read().rewards.square().sum())
    model.train().gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    kept = gradient_of(model, read().rewards.square().sum())
    torch.testing.assert_close(kept, plain, rtol=1e-4, atol=1e-5 * plain.abs().max().item())


def test_long_texts_are_not_trained_on_with_their_scores_kept(monkeypatch):
    model = made(AutoModelForSequenceClassification, PACKABLE["llama"]).float()
    layer, long = reward_layer(model), 2 * EAGER_TOKENS
    monkeypatch.setattr(packing, "has_amx", lambda device: False)
    assert takes_packs(model, layer, long, torch.bfloat16) == Trees(plain=True)  # keeps none
    assert choose_attention(model, layer, CPU, torch.bfloat16, EAGER_TOKENS) == Trees(plain=True)
    assert choose_attention(model, layer, CPU, torch.bfloat16, long) == Trees()
    assert choose_attention(model, layer, CPU, None, EAGER_TOKENS) == Trees()


@pytest.mark.parametrize("plain", [True, False])
def test_in_bfloat16_rewards_differ_by_rounding_alone(tiny_llama, plain):
    tokenizer = load_tokenizer(tiny_llama)
    torch.manual_seed(0)
    model = load_classifier(tiny_llama, tokenizer).eval()
    layer, how = reward_layer(model), {"pad_token": tokenizer.pad_token_id, "device": CPU, "max_tokens": 100}
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        padded = read_texts(model, layer, some_texts(), packs=None, **how).rewards
        assert takes_packs(model, layer, 256)
        packed = read_texts(model, layer, some_texts(), packs=Trees(plain=plain), **how).rewards
    assert 0 < (packed - padded).abs().max() < 0.02 * padded.abs().max()


@pytest.mark.parametrize("amx", [True, False])
def test_scoring_takes_fused_attention_where_there_is_amx_and_training_the_plain_one(monkeypatch, amx):
    model = made(AutoModelForSequenceClassification, PACKABLE["llama"]).float()
    monkeypatch.setattr(packing, "has_amx", lambda device: amx)
    layer = reward_layer(model)
    assert takes_packs(model, layer, 256, torch.bfloat16) == Trees(plain=not amx)
    assert choose_attention(model, layer, CPU, torch.bfloat16, 256) == Trees(plain=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, None], ids=["plain attention", "fused attention"])
def test_dropout_in_attention_drops(tiny_llama, dtype, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(packing, "has_amx", lambda device: False)
    model = load_classifier(tiny_llama, load_tokenizer(tiny_llama), dropout=0.5)
    layer, texts = reward_layer(model), some_texts()
    packs = takes_packs(model, layer, 256, dtype)
    assert packs == Trees(plain=dtype is not None)
    how = {"pad_token": 0, "device": CPU, "max_tokens": 100, "packs": packs}
    rewards = [
        read_texts(model.train(mode), layer, texts, **how).rewards for mode in (True, True, False, False)
    ]
    assert not torch.equal(rewards[0], rewards[1])
    assert torch.equal(rewards[2], rewards[3])


def test_gradient_checkpointing_gives_the_same_gradients(exact_norms):
    model, texts = made(AutoModelForSequenceClassification, PACKABLE["llama"]), some_texts()
    layer = reward_layer(model)
    how = {"pad_token": 0, "device": CPU, "max_tokens": 100, "packs": takes_packs(model, layer, 256)}
    plain = gradient_of(model, read_texts(model.train(), layer, texts, **how).rewards.square().sum())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    kept = gradient_of(model, read_texts(model, layer, texts, **how).rewards.square().sum())
    torch.testing.assert_close(kept, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("name", ["llama", "gpt-oss, sinks"])
def test_adapters_and_the_head_beside_them_learn_in_packs_what_they_do_padded(name, plain, exact_norms):
    model = made(AutoModelForSequenceClassification, PACKABLE[name])
    model = trainable(model, TrainConfig(method="lora")).double().eval()
    layer, how = reward_layer(model), {"pad_token": 0, "device": CPU, "max_tokens": 100}
    padded = read_texts(model, layer, some_texts(), packs=None, **how).rewards
    gradient = gradient_of(model, padded.square().sum())
    assert takes_packs(model, layer, 256)
    packed = read_texts(model, layer, some_texts(), packs=Trees(plain=plain), **how).rewards
    torch.testing.assert_close(packed, padded, rtol=1e-10, atol=1e-10)
    found = gradient_of(model, packed.square().sum())
    torch.testing.assert_close(found, gradient, rtol=1e-8, atol=1e-8 * gradient.abs().max().item())


@pytest.mark.parametrize("name", PACKABLE)
def test_with_the_norms_own_float32_rewards_in_packs_are_those_of_padded_texts_to_its_rounding(name):
    model, texts = made(AutoModelForSequenceClassification, PACKABLE[name]), some_texts()
    layer, how = reward_layer(model), {"pad_token": 0, "device": CPU, "max_tokens": 100}
    padded = read_texts(model, layer, texts, packs=None, **how).rewards
    gradient = gradient_of(model, padded.square().sum())
    assert takes_packs(model, layer, 256)
    packed = read_texts(model, layer, texts, packs=Trees(), **how).rewards
    torch.testing.assert_close(packed, padded, rtol=2e-6, atol=2e-6)
    found = gradient_of(model, packed.square().sum())
    torch.testing.assert_close(found, gradient, rtol=2e-6, atol=2e-6 * gradient.abs().max().item())


def test_a_saved_model_says_nothing_of_packs_and_scores_the_same(tiny_llama, tmp_path):
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tiny_llama)
    model = RewardModel(load_classifier(tiny_llama, tokenizer), tokenizer, precision="fp32")
    assert model.packs and model.model.config._attn_implementation == PACKED
    model.save(tmp_path / "saved")
    assert PACKED not in (tmp_path / "saved/config.json").read_text()
    own = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    texts = some_texts()
    with torch.no_grad():
        alone = [float(own(input_ids=torch.tensor([text])).logits) for text in texts]
    np.testing.assert_allclose(model.score_ids(texts), alone, atol=1e-5)


def test_generation_goes_on_with_sinks_as_before():
    model, ids = (
        made(AutoModelForCausalLM, PACKABLE["gpt-oss, sinks"]),
        torch.tensor([[5, 6, 7, 8], [0, 0, 9, 8]]),
    )
    how = {
        "attention_mask": (ids > 0).long(),
        "max_new_tokens": 8,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    before = model.generate(ids, **how)
    assert takes_packs(model, model.get_output_embeddings(), 256)
    after = model.generate(ids, **how)
    assert torch.equal(after.sequences, before.sequences)
    torch.testing.assert_close(torch.stack(after.logits), torch.stack(before.logits), rtol=1e-6, atol=1e-6)


def test_generation_goes_on_as_before(tiny_llama):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    before = model.generate(ids, max_new_tokens=8, do_sample=False)
    assert takes_packs(model, model.get_output_embeddings(), 256)
    assert torch.equal(model.generate(ids, max_new_tokens=8, do_sample=False), before)


def test_head_of_a_packed_model_is_float32_under_autocast(tiny_llama):
    model = load_classifier(tiny_llama, load_tokenizer(tiny_llama))
    layer, seen = reward_layer(model), []
    head_of(model).register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    packs = takes_packs(model, layer, 256)
    with torch.autocast("cpu", torch.bfloat16):
        read_texts(model, layer, some_texts(), pad_token=0, device=CPU, max_tokens=100, packs=packs)
    assert set(seen) == {torch.float32}
