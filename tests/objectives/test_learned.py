import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from outweigh.errors import ConfigError
from outweigh.objectives.caps import LEARNED, learned_cap
from outweigh.objectives.learned import (
    RIDGE,
    START,
    Pairs,
    fit_learned_cap,
    held_out_loss,
    learn,
    own_strength,
    trained,
)

NUMBERS = {"base": 1.0, "by_length": 0.5, "by_cosine": 0.8, "by_strength": 0.3, RIDGE: -2.0}


def made(count, seed=0, features=5):
    """Pairs of a linear reward, labels drawn from it, and columns that have nothing to do with either."""
    rng = np.random.default_rng(seed)
    difference = rng.normal(size=(count, features))
    gap = difference @ np.linspace(0.2, 1.5, features)
    right = rng.random(count) < 1 / (1 + np.exp(-gap))
    columns = {
        "length_ratio": rng.random(count),
        "cosine": 2 * rng.random(count) - 1,
        "strength": rng.normal(size=count),
    }
    return np.where(right[:, None], difference, -difference), columns


def pairs(count, seed=0):
    difference, columns = made(count, seed)
    return Pairs(difference, {name: torch.from_numpy(column) for name, column in columns.items()})


def test_the_cap_falls_with_likeness_and_rises_with_strength_and_is_above_0():
    alike = torch.linspace(0, 1, 11)
    options = {"by_length": 3.0, "by_cosine": 2.0, "by_strength": 1.5}
    zero, half = torch.zeros(11), torch.full((11,), 0.5)
    assert (learned_cap(alike, half, zero, **options).diff() < 0).all()
    assert (learned_cap(half, alike, zero, **options).diff() < 0).all()
    assert (learned_cap(half, half, 6 * alike - 3, **options).diff() > 0).all()
    assert (learned_cap(half, half, 100 * alike - 50, **options) > 0).all()


def test_before_anything_is_learnt_it_is_the_fixed_cap_of_the_paper():
    # .1 + 2 softplus(2.1) = .1 + 2 * 2.2155
    found = learned_cap(torch.rand(4), torch.rand(4), torch.randn(4))
    torch.testing.assert_close(found, torch.full((4,), 4.531), rtol=1e-4, atol=0)


def test_the_stand_in_is_trained_to_the_end():
    train = pairs(200)
    weight = trained(train, NUMBERS)
    cap = learned_cap(**train.about, **{name: NUMBERS[name] for name in LEARNED}).numpy()

    def loss(weight):
        gap = train.difference @ weight
        each = np.log1p(np.exp(-gap)) + np.log1p(np.exp(gap - cap))
        return each.mean() + np.exp(-2.0) / 2 * (weight**2).sum()

    by_another = minimize(loss, np.zeros(5), tol=1e-12)
    np.testing.assert_allclose(weight, by_another.x, atol=1e-5)


def test_far_from_the_least_loss_a_step_does_not_lead_past_it():
    train = pairs(200)._replace(difference=40 * pairs(200).difference)
    weight = trained(train, START | {RIDGE: -9.0})
    slope = 1e-6 * np.eye(5)

    def loss(weight):
        gap = train.difference @ weight
        cap = learned_cap(**train.about).numpy()
        each = np.logaddexp(0, -gap) + np.logaddexp(0, gap - cap)
        return each.mean() + np.exp(-9.0) / 2 * (weight**2).sum()

    assert all(loss(weight) <= loss(weight + sign * step) for step in slope for sign in (1, -1))


@pytest.mark.parametrize("name", [*LEARNED, RIDGE])
def test_the_slope_through_the_trained_weights_is_that_of_finite_differences(name):
    train, choose, step = pairs(150), pairs(80, seed=1), 1e-4
    _, slope = held_out_loss(train, choose, NUMBERS)
    above, below = (
        held_out_loss(train, choose, NUMBERS | {name: NUMBERS[name] + sign * step})[0] for sign in (1, -1)
    )
    assert slope[name] == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-9)
    assert abs(slope[name]) > 1e-7


def test_learning_lowers_the_held_out_loss_and_keeps_the_cap_monotone():
    train, choose = pairs(300), pairs(150, seed=1)
    found = learn(train, choose, tuple(START))
    assert held_out_loss(train, choose, found)[0] < held_out_loss(train, choose, START)[0]
    assert all(found[name] >= 0 for name in LEARNED if name != "base")


def fitted(difference, columns, prompts):
    ready = [torch.from_numpy(columns[name]).float() for name in ("length_ratio", "cosine", "strength")]
    return fit_learned_cap(*ready, torch.from_numpy(difference).float(), torch.from_numpy(prompts).float())


def test_strengths_of_labels_that_were_seen_do_not_pass_for_a_gain():
    # strengths of a model trained on every label, those that judge too: by them any cap would seem to gain
    savings = []
    for seed in range(4):
        difference, columns = made(800, seed, features=60)
        everything = Pairs(difference, {name: torch.from_numpy(each) for name, each in columns.items()})
        columns["strength"] = difference @ trained(everything, START)
        savings.append(fitted(difference, columns, np.arange(800) // 4)[1]["saved"])
    assert sum(each["low"] > 0 for each in savings) <= 1
    assert np.mean([each["value"] for each in savings]) < 0.02


def test_own_strengths_are_on_the_scale_of_the_audits():
    given = pairs(400)
    given = given._replace(about=given.about | {"strength": 3 + 2 * torch.randn(400, dtype=torch.float64)})
    found = own_strength(given, np.arange(400))
    assert found.mean().item() == pytest.approx(given.about["strength"].mean().item())
    assert found.std().item() == pytest.approx(given.about["strength"].std().item(), rel=1e-6)


def test_own_strengths_are_of_weights_that_saw_no_pair_of_the_prompt():
    """Copies of a pair under one prompt: were they parted among folds, each would be known by heart."""
    draw = np.random.default_rng(0)
    difference = np.repeat(draw.normal(size=(40, 200)), 5, axis=0)
    columns = {name: torch.zeros(200, dtype=torch.float64) for name in ("length_ratio", "cosine")}
    columns["strength"] = torch.from_numpy(draw.normal(size=200))
    given = Pairs(difference, columns)
    by_prompt, by_pair = (own_strength(given, each) for each in (np.arange(200) // 5, np.arange(200)))
    level = [(each.mean() / each.std()).item() for each in (by_prompt, by_pair)]
    assert level[0] == pytest.approx(level[1])  # both at the audit's level
    # the gap of a pair learnt by heart hangs on the pair alone, as its copies' does
    apart = [each.reshape(40, 5).std(1).mean().item() for each in (by_prompt, by_pair)]
    assert apart[0] < 1e-9 < apart[1]


def test_it_is_the_same_twice_and_prompts_stay_whole():
    difference, columns = made(800, features=20)
    (options, found), again = (fitted(difference, columns, np.arange(800) // 4) for _ in range(2))
    assert (options, found) == again
    assert found["saved"]["unit"] == "prompt" and found["saved"]["count"] == 50
    assert found["saved"]["value"] == pytest.approx(found["log_loss_fixed"] - found["log_loss"])


def test_too_few_pairs_are_refused():
    difference, columns = made(199)
    with pytest.raises(ConfigError, match="got 199 pairs, want 200 or more to learn from"):
        fitted(difference, columns, np.arange(199))


def test_where_nothing_is_to_be_learnt_it_ties_with_a_constant():
    difference, columns = made(2000)
    _, found = fitted(difference, columns, np.zeros(2000))  # one prompt: parted by pair
    assert found["saved"]["unit"] == "pair"
    assert abs(found["saved"]["value"]) < 0.01
    assert found["saved"]["low"] <= 0 <= found["saved"]["high"] or abs(found["saved"]["value"]) < 0.003
