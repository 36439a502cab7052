"""One round of TRL on a tiny policy: what it saves, and what it logs."""

import json
import shutil

import numpy as np
import pytest
from transformers import AutoTokenizer

from outweigh.align.config import RLConfig
from outweigh.align.rl import train_round
from outweigh.align.rounds import Answers, round_facts
from outweigh.data.records import Message

pytest.importorskip("trl")

PROMPTS = [(Message("user", f"Name prime number {number}."),) for number in range(8)]


def round_of(policy, reward, folder, **settings):
    quick = {"n": 2, "batch_prompts": 4, "device_responses": 4, "max_new_tokens": 8, "precision": "fp32"}
    config = RLConfig(policy=str(policy), **(quick | settings))
    return train_round(PROMPTS, reward, config, folder, number=1, columns={})


def lengths(prompts, completions, **columns):
    return [float(len(said[0]["content"])) for said in completions]


def clipped(prompts, completions, trainer_state, **columns):
    """Lengths for two steps, so that the policy moves; then all at the clip."""
    return lengths(prompts, completions) if trainer_state.global_step < 2 else [5.0] * len(completions)


@pytest.fixture
def first_a_word(tiny_chat, tmp_path):
    """The tiny policy with a word, not a special token, for its first token; it has no pad token."""
    folder = tmp_path / "first-a-word"
    shutil.copytree(tiny_chat, folder)
    file = folder / "tokenizer.json"
    told = json.loads(file.read_text())
    words = told["model"]["vocab"]
    words["!"], words["<s>"] = words["<s>"], words["!"]
    (start,) = (each for each in told["added_tokens"] if each["content"] == "<s>")
    start["id"] = words["<s>"]
    file.write_text(json.dumps(told))
    return folder


def test_a_policy_without_a_pad_token_is_saved_with_every_word_that_it_had(first_a_word, tmp_path):
    round_of(first_a_word, lengths, tmp_path / "round")
    before, after = (
        AutoTokenizer.from_pretrained(each) for each in (first_a_word, tmp_path / "round/policy")
    )
    assert before.pad_token is None and before.decode([0]) == "!"
    for ids in ([token] for token in range(len(before))):
        assert after.decode(ids, skip_special_tokens=True) == before.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_a_reward_that_is_one_for_all_responses_is_flat_whatever_the_divergence(
    algorithm, tiny_chat, tmp_path
):
    how = {"algorithm": algorithm, "kl": 0.5, "learning_rate": 1e-2, "epochs": 3.0}
    answers = Answers(*([np.ones((4, 2))] * 5), np.ones(4))
    for reward, flat in ((clipped, True), (lengths, False)):
        log = round_of(tiny_chat, reward, tmp_path / reward.__name__, **how)
        assert ("flat reward" in round_facts([answers, answers], log).alarms) is flat
