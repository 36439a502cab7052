"""The loss at every token: its gaps, and a step against the definition written out."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.errors import ConfigError
from outweigh.training import fit as fitting
from outweigh.training.config import ContrastConfig, TrainConfig
from outweigh.training.fit import fit
from outweigh.training.tokenwise import mean_by_pair, shared_tokens, token_gaps

RATE = 0.05


def configured(backbone, **settings):
    return TrainConfig(
        **{"backbone": str(backbone), "tokens": TokenConfig(max_tokens=96), "precision": "fp32"}
        | {"validation": 0.0, "learning_rate": RATE, "weight_decay": 0.0, "trainer": {"optim": "sgd"}}
        | {"schedule": "constant", "warmup_fraction": 0, "max_grad_norm": 0, "loss_at": "tokens"}
        | settings
    )


def weights(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


def test_gaps_begin_where_texts_differ_and_end_with_the_longer_one():
    ids = [[7, 1, 2, 3], [7, 1, 9], [5], [5, 6]]
    rewards = [torch.tensor([0.0, 1.0, 2.0, 5.0]), torch.tensor([0.0, 0.5, 1.5]), torch.tensor([2.0]),
               torch.tensor([1.0, 4.0])]  # fmt: skip
    found = token_gaps(rewards, ids, [1, 1, 0, 0])
    assert found.gap.tolist() == [0.5, 3.5, 1.0, -2.0]  # the shorter one's last reward goes on
    assert found.pair.tolist() == [0, 0, 1, 1] and found.sizes.tolist() == [2, 2]
    assert mean_by_pair(found.gap, found).tolist() == [2.0, -0.5]


def test_gaps_are_of_the_responses_where_prompts_were_cut_at_different_places():
    # the longer response's prompt lost its first two tokens: both responses begin with 1 and differ after it
    ids = [[7, 8, 9, 1, 2], [9, 1, 3, 4, 5]]
    rewards = [torch.arange(5.0), 10 * torch.arange(5.0)]
    found = token_gaps(rewards, ids, [3, 1])
    assert found.gap.tolist() == [4 - 20, 4 - 30, 4 - 40]


@pytest.mark.parametrize(("one", "other", "shared"), [("abc", "abd", 2), ("ab", "abc", 2), ("", "a", 0)])
def test_shared_tokens_are_those_before_the_first_difference(one, other, shared):
    assert shared_tokens(list(map(ord, one)), list(map(ord, other))) == shared


def written_out(folder, pairs, cap):
    """One step of the mean capped loss over tokens in float64, by autograd, each text alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).double()
    losses = []
    for row in pairs:
        ids, rewards = [], []
        for side in ("chosen", "rejected"):
            turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            given = tokenizer(text, add_special_tokens=False, return_tensors="pt")
            ids.append(given["input_ids"][0].tolist())
            rewards.append(model.score(model.model(**given).last_hidden_state)[0, :, 0])
        start = next(place for place, (a, b) in enumerate(zip(*ids, strict=False)) if a != b)
        total, end = 0.0, max(map(len, ids))
        for place in range(start, end):
            gap = rewards[0][min(place, len(ids[0]) - 1)] - rewards[1][min(place, len(ids[1]) - 1)]
            total = total - torch.sigmoid(gap).log() - torch.sigmoid(cap - gap).log()
        losses.append(total / (end - start))
    slopes = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()), allow_unused=True)
    return {
        name: (each - RATE * slope).detach()
        for (name, each), slope in zip(model.named_parameters(), slopes, strict=True)
    }


@pytest.mark.parametrize("device_pairs", [None, 2])
def test_a_step_is_the_definition_written_out(tiny_llama, wordy_pairs, tmp_path, device_pairs):
    rows = wordy_pairs[:6]
    config = configured(tiny_llama, batch_pairs=6, cap=3.0, device_pairs=device_pairs)
    fit(PairSet.from_rows(rows), replace(config, learning_rate=1e-30), tmp_path / "start")
    fit(PairSet.from_rows(rows), config, tmp_path / "trained")
    expected = written_out(tmp_path / "start/model", rows, 3.0)
    found, start = weights(tmp_path / "trained/model"), weights(tmp_path / "start/model")
    moved = max((found[name] - start[name]).abs().max().item() for name in found)
    assert max((found[name] - expected[name]).abs().max().item() for name in found) < 1e-3 * moved


def test_it_learns_with_sources_of_every_kind(tiny_llama, wordy_pairs, tmp_path):
    config = configured(
        tiny_llama, trainer={}, learning_rate=3e-3, epochs=6, margin="batch", flip_rate=0.1, cap="length",
        auxiliary={"centring": 0.01}, device_pairs=4, method="lora",
    )  # fmt: skip
    trained = fit(PairSet.from_rows(wordy_pairs), config, tmp_path)
    assert trained.results["log"][-2]["accuracy"] > 0.9
    assert {"capped", "margin"} <= set(trained.results["log"][0])  # what the alarms judge by


def test_encoders_and_further_views_are_refused(tiny_bert, tiny_llama, wordy_pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_model", None)  # none is loaded
    pairs = PairSet.from_rows(wordy_pairs)
    with pytest.raises(ConfigError, match="one reward a text, want a causal one"):
        fit(pairs, configured(tiny_bert), tmp_path / "encoder")
    with pytest.raises(ConfigError, match="loss_at tokens: is of pairs, without a contrastive term"):
        fit(
            pairs,
            configured(tiny_llama, dropout=0.1, contrast=ContrastConfig(kind="simcse")),
            tmp_path / "views",
        )
    with pytest.raises(ConfigError, match="loss_at: got 'first', want one of last, tokens"):
        fit(pairs, configured(tiny_llama, loss_at="first"), tmp_path / "first")
