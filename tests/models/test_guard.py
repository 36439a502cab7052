"""A saved model that says something else is caught."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from outweigh.data.records import Message
from outweigh.errors import ModelError
from outweigh.models.guard import check_reload
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.reward import RewardModel

TEXTS = [((Message("user", "Ask."),), (Message("assistant", text),)) for text in ("Tea, please.", "Now!")]


@pytest.fixture
def saved(tiny_llama, tmp_path):
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tiny_llama)
    model = RewardModel(load_classifier(tiny_llama, tokenizer), tokenizer, precision="fp32")
    model.save(tmp_path / "model")
    return tmp_path / "model", model.score_texts(TEXTS)


def test_the_same_rewards_pass(saved):
    folder, expected = saved
    assert check_reload(folder, TEXTS, expected) < 1e-5


def test_other_weights_are_refused(saved):
    folder, expected = saved
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"] *= 1.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="a fresh process gives other rewards"):
        check_reload(folder, TEXTS, expected)


def test_a_model_that_cannot_be_loaded_is_refused(saved):
    folder, expected = saved
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="can't be used in a fresh process"):
        check_reload(folder, TEXTS, np.asarray(expected))
