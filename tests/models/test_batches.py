"""Rewards do not depend on which texts share a forward pass."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from outweigh.models.batches import PASSES, length_batches, pad, read_texts
from outweigh.models.loading import load_classifier, load_tokenizer, reward_layer


@pytest.mark.parametrize("budget", [1, 7, 64, 10_000])
def test_every_text_is_in_one_batch_within_the_budget_unless_alone(budget):
    lengths = np.random.default_rng(0).integers(1, 40, 50)
    batches = length_batches(lengths, budget)
    assert sorted(np.concatenate(batches).tolist()) == list(range(50))
    assert all(len(batch) == 1 or len(batch) * lengths[batch].max() <= budget for batch in batches)
    assert lengths[batches[0]].max() == lengths.max()


def test_texts_are_cut_where_the_least_padding_is_left():
    lengths = [10, 90, 11, 88, 12, 50]
    batches = [sorted(batch.tolist()) for batch in length_batches(lengths, 300)]
    assert batches == [[1, 3], [5], [0, 2, 4]]


def test_no_batch_is_made_for_less_than_its_pass_costs():
    assert len(length_batches([20, 19, 18, 17, 16, 15], 640)) == 1  # it would save 3 tokens a text, a pass 20


@pytest.mark.parametrize("seed", range(5))
def test_no_other_cut_of_the_sorted_texts_costs_less(seed):
    lengths = np.sort(np.random.default_rng(seed).integers(1, 60, 9))[::-1]
    budget = 120

    def cost(cuts):
        ends = [0, *cuts, len(lengths)]
        parts = [lengths[start:end] for start, end in pairwise(ends)]
        if any(len(part) > 1 and len(part) * part[0] > budget for part in parts):
            return np.inf
        return sum(len(part) * part[0] for part in parts) + len(parts) * budget / PASSES

    every = [cuts for count in range(9) for cuts in combinations(range(1, 9), count)]
    found = length_batches(lengths, budget)
    own = cost(np.cumsum([len(batch) for batch in found])[:-1].tolist())
    assert own == min(cost(cuts) for cuts in every)


def test_padding_is_on_the_right_and_masked():
    found = pad([[5, 6, 7], [8]], 9, torch.device("cpu"))
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
def test_rewards_and_gradients_are_those_of_texts_alone(name, request):
    folder = request.getfixturevalue(name)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder)
    model = load_classifier(folder, tokenizer).eval()
    rng = np.random.default_rng(0)
    ids = [rng.integers(4, 200, size).tolist() for size in (3, 17, 5, 9, 17, 1)]
    found = {}
    for budget in (1, 40, 10_000):
        model.zero_grad()
        rewards = read_texts(
            model,
            reward_layer(model),
            ids,
            pad_token=tokenizer.pad_token_id,
            device=torch.device("cpu"),
            max_tokens=budget,
            packs=None,
        ).rewards
        rewards.square().sum().backward()
        gradient = torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])
        found[budget] = rewards.detach(), gradient
    for budget in (40, 10_000):
        torch.testing.assert_close(found[budget][0], found[1][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[budget][1], found[1][1], rtol=1e-3, atol=1e-4)
