import numpy as np
import pytest

from outweigh.metrics.correlation import pearson
from outweigh.metrics.intervals import Unit, bootstrap, bootstrap_mean, choose_unit, fallen


def by_prompt(prompts):
    names, ids = np.unique(prompts, return_inverse=True)
    return Unit("prompt", ids, len(names))


def by_pair(pairs):
    return Unit("pair", np.arange(pairs), pairs)


def width(estimate):
    return estimate.high - estimate.low


def prompted_answers(rng, prompts=60):
    """Right or wrong (B,) on 5 to 15 pairs a prompt; prompts differ in difficulty, 0.7 on average."""
    sizes = rng.integers(5, 16, prompts)
    easy = np.repeat(rng.beta(1.4, 0.6, prompts), sizes)  # mean 1.4 / 2
    return (rng.random(len(easy)) < easy).astype(float), np.repeat(np.arange(prompts), sizes)


def test_the_unit_is_the_prompt_from_thirty_prompts_on():
    many = choose_unit(np.repeat(np.arange(100, 130), 4))
    assert (many.name, many.count) == ("prompt", 30)
    assert many.ids.tolist() == np.repeat(np.arange(30), 4).tolist()


def test_the_unit_is_the_pair_with_fewer_prompts():
    few = choose_unit(np.repeat(np.arange(29), 4))
    assert (few.name, few.count) == ("pair", 116)
    assert few.ids.tolist() == list(range(116))


def test_copies_of_a_pair_are_one_unit():
    few = choose_unit(np.zeros(6), np.array([7, 3, 7, 5, 3, 7]))
    assert (few.name, few.count) == ("pair", 3)
    assert few.ids.tolist() == [2, 0, 2, 1, 0, 2]


def test_prompts_may_be_named_by_text():
    assert choose_unit(np.array([f"prompt {i % 31}" for i in range(62)])).count == 31


def test_two_units_span_every_resample():
    # Resamples of {0, 1}: 0 with 1/4, one half with 1/2, 1 with 1/4, so both 2.5 % limits are the extremes.
    estimate = bootstrap_mean(np.array([0.0, 1.0]), by_pair(2))
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


def test_units_of_unequal_size_weigh_by_their_pairs():
    # One prompt has 1 pair, right; the other 3, wrong: the mean over pairs is 1/4, over prompts 1/2.
    estimate = bootstrap_mean(np.array([1.0, 0.0, 0.0, 0.0]), by_prompt([0, 1, 1, 1]))
    assert (estimate.value, estimate.count, estimate.pairs) == (0.25, 2, 4)


def test_the_mean_by_sums_equals_the_mean_by_resampled_pairs():
    right, prompts = prompted_answers(np.random.default_rng(2))
    unit = by_prompt(prompts)
    by_sums = bootstrap_mean(right, unit, resamples=200, seed=4)
    by_pairs = bootstrap(lambda pairs: float(right[pairs].mean()), unit, resamples=200, seed=4)
    assert (by_sums.low, by_sums.high) == pytest.approx((by_pairs.low, by_pairs.high))


def test_the_interval_by_pair_is_that_of_the_normal_approximation():
    right = np.repeat([1.0, 0.0], [700, 300])
    estimate = bootstrap_mean(right, by_pair(1000))
    half = 1.96 * np.sqrt(0.7 * 0.3 / 1000)  # 0.0284
    assert (estimate.low, estimate.high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.003)


def test_pairs_that_agree_within_their_prompt_widen_the_interval():
    # 50 prompts of 10 pairs that are all right or all wrong: 50 facts, not 500; sqrt(10) = 3.16 as wide.
    prompts = np.repeat(np.arange(50), 10)
    right = (prompts % 2).astype(float)
    ratio = width(bootstrap_mean(right, by_prompt(prompts))) / width(bootstrap_mean(right, by_pair(500)))
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)


def test_the_interval_by_prompt_covers_the_truth_and_the_one_by_pair_does_not():
    rng = np.random.default_rng(0)
    covered_by_prompt = covered_by_pair = 0
    for repeat in range(200):
        right, prompts = prompted_answers(rng)
        for_prompt = bootstrap_mean(right, by_prompt(prompts), resamples=400, seed=repeat)
        for_pair = bootstrap_mean(right, by_pair(len(right)), resamples=400, seed=repeat)
        covered_by_prompt += for_prompt.low <= 0.7 <= for_prompt.high
        covered_by_pair += for_pair.low <= 0.7 <= for_pair.high
    assert 0.90 <= covered_by_prompt / 200 <= 0.99  # 0.95 has a standard error of 0.015 here
    assert covered_by_pair / 200 < 0.85


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    right, prompts = prompted_answers(np.random.default_rng(1))
    unit = by_prompt(prompts)
    assert bootstrap_mean(right, unit, seed=1) == bootstrap_mean(right, unit, seed=1)
    assert bootstrap_mean(right, unit, seed=1) != bootstrap_mean(right, unit, seed=2)


def test_one_unit_has_a_value_but_no_interval():
    estimate = bootstrap_mean(np.array([1.0, 0.0]), by_prompt([3, 3]))
    assert (estimate.value, estimate.low, estimate.high, estimate.count) == (0.5, None, None, 1)
    assert bootstrap(lambda pairs: 1.0, by_pair(1)).low is None


def test_many_units_are_resampled_in_parts_that_fit_in_memory(monkeypatch):
    right, prompts = prompted_answers(np.random.default_rng(1))
    unit = by_prompt(prompts)
    whole = bootstrap_mean(right, unit, resamples=50)
    monkeypatch.setattr("outweigh.metrics.intervals.LARGEST_DRAW", 7 * unit.count)  # 7 resamples at once
    assert bootstrap_mean(right, unit, resamples=50) == whole


def test_a_statistic_without_a_value_on_many_resamples_has_no_interval():
    # Half of the resamples of two pairs hold one pair twice, on which a correlation has no value.
    x = np.array([1.0, 2.0])
    estimate = bootstrap(lambda pairs: pearson(x[pairs], x[pairs]), by_pair(2))
    assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(1), None, None)


def test_a_statistic_without_a_value_on_all_pairs_is_not_resampled():
    assert bootstrap(lambda pairs: None, by_pair(40)).value is None


def test_the_interval_of_a_correlation_is_that_of_fishers_z():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = x + rng.normal(size=400)
    estimate = bootstrap(lambda pairs: pearson(x[pairs], y[pairs]), by_pair(400))
    z = np.arctanh(estimate.value) + np.array([-1.96, 1.96]) / np.sqrt(397)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.tanh(z)), abs=0.015)


def test_a_column_that_falls_is_marked_and_those_that_wander_are_not():
    rng = np.random.default_rng(0)
    unit = choose_unit(np.arange(200))
    noise_BN = 0.1 * rng.normal(size=(200, 6))
    level_N = np.array([0.0, 1.0, 1.0, 0.5, 1.1, 1.2])
    assert fallen(level_N + noise_BN, unit).tolist() == [False, False, False, True, False, False]
    assert not fallen(level_N + noise_BN, choose_unit(np.zeros(200), np.zeros(200))).any()  # of one unit


def test_of_columns_that_are_alike_one_in_forty_times_some_is_marked_as_fallen():
    """The chance is of all columns together; tried one by one against the highest it is a multiple."""
    rng = np.random.default_rng(1)
    unit = choose_unit(np.arange(100))
    found = sum(
        bool(fallen(rng.normal(size=(100, 12)).cumsum(axis=1), unit, resamples=300, seed=each).any())
        for each in range(400)
    )
    assert found <= 20  # 10 in the mean; more than 20 would come by chance once in a thousand times
