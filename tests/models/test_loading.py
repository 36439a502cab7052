"""Checkpoints that are whole, damaged, or something else."""

import json
import shutil

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlavaConfig,
    OPTConfig,
    OPTModel,
    RobertaConfig,
    RobertaModel,
)

from outweigh.errors import ConfigError, ModelError
from outweigh.models.loading import (
    PAD_TOKEN,
    check_positions,
    head_of,
    load_classifier,
    load_tokenizer,
    reads_every_token,
    resolve,
    set_dropout,
)
from outweigh.models.reward import RewardModel


@pytest.fixture
def reward_model(tiny_bert, tmp_path):
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tiny_bert)
    RewardModel(load_classifier(tiny_bert, tokenizer), tokenizer).save(tmp_path / "model")
    return tmp_path / "model"


def test_a_pad_token_of_its_own_comes_where_pad_would_hide_the_end(tiny_llama):
    tokenizer = load_tokenizer(tiny_llama)
    model = load_classifier(tiny_llama, tokenizer)
    assert tokenizer.pad_token == PAD_TOKEN != tokenizer.eos_token
    assert model.config.pad_token_id == tokenizer.pad_token_id < model.get_input_embeddings().num_embeddings


def test_a_pad_token_that_is_there_stays(tiny_bert):
    assert load_tokenizer(tiny_bert).pad_token == "[PAD]"


def test_dropout_is_set_everywhere_and_the_head_is_float32(tiny_bert):
    model = load_classifier(tiny_bert, load_tokenizer(tiny_bert), dropout=0.25)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}
    with torch.autocast("cpu", torch.bfloat16):
        assert head_of(model)(torch.ones(1, 32, dtype=torch.bfloat16)).dtype is torch.float32


def test_from_the_configuration_alone_it_is_told_what_reads_every_token(tiny_bert, tiny_llama, tmp_path):
    for place, expected in ((tiny_bert, False), (tiny_llama, True)):
        copied = tmp_path / place.name
        copied.mkdir()
        shutil.copy(place / "config.json", copied)
        assert reads_every_token(copied) is expected
    assert not reads_every_token("minilm")
    assert reads_every_token("smollm2")


def test_the_first_layers_can_be_kept_alone(tiny_bert, tiny_llama):
    for backbone, layers in ((tiny_bert, "bert.encoder.layer"), (tiny_llama, "model.layers")):
        tokenizer = load_tokenizer(backbone)
        whole, first = (load_classifier(backbone, tokenizer, layers=layers) for layers in (None, 1))
        kept = {name for name, _ in first.named_parameters() if name.startswith(layers)}
        assert kept and kept < {name for name, _ in whole.named_parameters() if name.startswith(layers)}
        assert all(torch.equal(first.get_parameter(name), whole.get_parameter(name)) for name in kept)
        with pytest.raises(ModelError, match=r"has 2 layers, got layers 3, want from 1 to 2"):
            load_classifier(backbone, tokenizer, layers=3)


@pytest.mark.parametrize("size", [0, 1000])
def test_weights_that_are_cut_off_are_told_from_a_fault_of_ours(reward_model, size):
    weights = reward_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ModelError, match="can't be loaded"):
        RewardModel.load(reward_model)


def test_a_config_that_is_no_json_is_named(reward_model):
    (reward_model / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not a valid JSON file"):
        RewardModel.load(reward_model)


def test_a_folder_without_tokenizer_files_is_refused(tmp_path):
    shutil.copytree(resolve("minilm"), tmp_path / "model")
    for name in ("tokenizer.json", "vocab.txt"):
        (tmp_path / "model" / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"tokenizer has no vocabulary. Add tokenizer.json"):
        load_tokenizer(tmp_path / "model")


def test_what_is_no_reward_model_is_refused_by_name(tiny_bert, reward_model):
    with pytest.raises(ModelError, match=r"not a reward model, its checkpoint lacks classifier"):
        config = tiny_bert / "config.json"
        copied = reward_model.parent / "headless"
        shutil.copytree(tiny_bert, copied)
        told = json.loads(config.read_text()) | {"id2label": {"0": "reward"}, "label2id": {"reward": 0}}
        (copied / "config.json").write_text(json.dumps(told))
        RewardModel.load(copied)
    with pytest.raises(ModelError, match="is no reward model: got 2 labels, want 1"):
        RewardModel.load(tiny_bert)


@pytest.mark.parametrize("name", ["/no/such/folder", "./neither", "a/b/c"])
def test_a_path_that_is_not_there_is_no_hub_name(name):
    with pytest.raises(ModelError, match="no such folder, and not a Hub name"):
        resolve(name)


def test_a_name_is_asked_about_where_a_folder_or_a_bundled_model_has_one_like_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trained/model").mkdir(parents=True)
    for name, meant in (("trained/modle", "trained/model"), ("minlm", "minilm"), ("./trainde", "trained")):
        with pytest.raises(ModelError, match=f"Did you mean '{meant}'"):
            load_tokenizer(name)
    with pytest.raises(ModelError) as told:
        load_tokenizer("nothing/like-it")
    assert "Did you mean" not in str(told.value)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no config.json in this folder"):
        resolve(tmp_path)


def test_the_closing_token_is_trained_though_the_checkpoint_pads_with_it(tiny_llama):
    tokenizer = load_tokenizer(str(tiny_llama))
    model = load_classifier(str(tiny_llama), tokenizer)
    ids = torch.tensor([[tokenizer.bos_token_id, 20, tokenizer.eos_token_id, tokenizer.pad_token_id]])
    model(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1, 0]])).logits.sum().backward()
    slope_VH = model.get_input_embeddings().weight.grad
    assert slope_VH[tokenizer.eos_token_id].abs().max() > 0
    assert slope_VH[tokenizer.pad_token_id].abs().max() == 0


SMALL = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


@pytest.mark.parametrize(
    "model",
    [
        BertModel(BertConfig(**SMALL, intermediate_size=8, max_position_embeddings=64)),
        RobertaModel(RobertaConfig(**SMALL, intermediate_size=8, max_position_embeddings=66)),
        GPT2Model(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, n_positions=64)),
        OPTModel(OPTConfig(**SMALL, ffn_dim=8, word_embed_proj_dim=8, max_position_embeddings=64)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_more_tokens_than_a_model_has_positions_are_refused_and_as_many_are_read(model):
    check_positions(model, 64)
    assert model.eval()(input_ids=torch.full((1, 64), 5)).last_hidden_state.shape[1] == 64
    with pytest.raises(ConfigError, match="got 65, want 64 or fewer"):
        check_positions(model, 65)


def test_what_is_broken_beside_the_weights_is_named(reward_model):
    (reward_model / "outweigh.json").write_text("{")
    with pytest.raises(ModelError, match=r"outweigh\.json: can't be read"):
        RewardModel.load(reward_model)


def test_dropout_is_set_within_configurations_of_parts_too():
    text = LlamaConfig(hidden_size=32, num_attention_heads=4)
    whole = LlavaConfig(text_config=text)
    set_dropout(whole, 0.1)
    assert whole.text_config.attention_dropout == 0.1
