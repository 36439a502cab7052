import dataclasses
import json
import math
from functools import partial

import numpy as np
import pytest

from outweigh.errors import DataError, ShapeError
from outweigh.evaluation import evaluate
from outweigh.evaluation.facts import PairFacts

evaluate_gaps = partial(evaluate.evaluate_gaps, resamples=50)  # the default 2,000 take a second a call


def facts(longer_by, *, prompts=None, source=None, **grades):
    """Facts of pairs whose chosen response is longer by so many characters; by default a prompt each."""
    longer_by = np.asarray(longer_by, dtype=float)
    return PairFacts(
        prompt_ids=np.arange(len(longer_by)) if prompts is None else np.asarray(prompts),
        chosen_characters=1000 + longer_by,
        rejected_characters=np.full(len(longer_by), 1000.0),
        source=None if source is None else np.array(source, dtype=object),
        grades={name: np.asarray(grade, dtype=float) for name, grade in grades.items()},
    )


def test_four_pairs_by_hand():
    got = evaluate_gaps(np.array([2.0, 1.0, 0.0, -1.0]), facts([5, -5, 5, -5]))
    assert (got.pairs, got.prompts, got.ties) == (4, 4, 1)
    assert got.accuracy.value == (1 + 1 + 0.5 + 0) / 4
    assert got.longer_wins.value == 2 / 4
    assert got.gain_over_length.value == pytest.approx(0.625 - 0.5)
    assert got.random == 0.5
    assert got.gap.mean == 0.5
    assert got.gap.std == pytest.approx(math.sqrt(5) / 2)  # deviations 1.5 .5 -.5 -1.5: 5 / 4
    assert got.gap.quantiles["0.5"] == 0.5
    assert sum(got.gap.counts) == 4 and len(got.gap.edges) == len(got.gap.counts) + 1
    assert got.calibration.before.log_loss == pytest.approx(
        sum(math.log1p(math.exp(-gap)) for gap in (2, 1, 0, -1)) / 4
    )


def test_the_models_of_an_ensemble_say_where_they_are_apart():
    gap_MB = np.array([[3.0, 1.0, -1.0, 1.0], [1.0, 2.0, 3.0, -5.0], [2.0, 0.0, 1.0, -2.0]])
    gap = gap_MB.mean(axis=0)  # 2 1 1 -2
    apart = evaluate_gaps(gap, facts([5, -5, 5, -5]), gap_MB=gap_MB).ensemble
    assert apart.models == 3
    assert apart.disputed.value == 3 / 4  # a tie of one model sides with neither
    assert (apart.accuracy_agreed.value, apart.accuracy_disputed.value) == (1, 2 / 3)
    # stds are the roots of 2/3, 2/3, 8/3 and 18/3: the one wrong pair has the largest
    assert apart.spread["0.5"] == pytest.approx((math.sqrt(2 / 3) + math.sqrt(8 / 3)) / 2)
    assert apart.auroc.value == 1
    alike = evaluate_gaps(gap, facts([5, -5, 5, -5]), gap_MB=np.stack([gap, 2 * gap])).ensemble
    assert alike.accuracy_disputed is None and alike.disputed.value == 0
    assert evaluate_gaps(gap, facts([5, -5, 5, -5]), gap_MB=gap[None]).ensemble is None
    with pytest.raises(ShapeError, match="gap of model 1"):
        evaluate_gaps(gap, facts([5, -5, 5, -5]), gap_MB=gap_MB[:, :2])


def test_copies_of_pairs_narrow_no_interval():
    gap = np.random.default_rng(0).normal(0.5, 1.0, 40)
    once = facts(np.ones(40), prompts=np.zeros(40, dtype=int))
    nine = dataclasses.replace(
        facts(np.ones(360), prompts=np.zeros(360, dtype=int)), pair_ids=np.repeat(np.arange(40), 9)
    )
    one, copied = evaluate_gaps(gap, once).accuracy, evaluate_gaps(np.repeat(gap, 9), nine).accuracy
    assert (copied.value, copied.low, copied.high) == pytest.approx((one.value, one.low, one.high))
    assert (copied.unit, copied.count, copied.pairs) == ("pair", 40, 360)


def test_the_unit_of_the_intervals_is_named():
    assert (
        evaluate_gaps(np.ones(60), facts(np.ones(60), prompts=np.arange(60) % 30)).accuracy.unit == "prompt"
    )
    few = evaluate_gaps(np.ones(60), facts(np.ones(60), prompts=np.arange(60) % 29)).accuracy
    assert (few.unit, few.count) == ("pair", 60)


def test_a_model_that_learnt_nothing_but_length_gains_nothing_over_it():
    longer_by = np.random.default_rng(0).normal(20, 100, 300).round()
    got = evaluate_gaps(longer_by / 50, facts(longer_by))
    assert (got.gain_over_length.value, got.gain_over_length.low, got.gain_over_length.high) == (0, 0, 0)
    assert got.length.pearson.value == pytest.approx(1)
    assert got.length.spearman.low == pytest.approx(1)
    assert got.by_length[0].accuracy.value == 0  # where the chosen response is the shorter
    assert got.by_length[-1].accuracy.value == 1


def test_quarters_by_length_hold_all_pairs_in_order():
    got = evaluate_gaps(np.ones(8), facts([8, 1, 7, 2, 6, 3, 5, 4])).by_length
    assert [(row.low, row.high, row.pairs) for row in got] == [(1, 2, 2), (3, 4, 2), (5, 6, 2), (7, 8, 2)]


def test_pairs_of_one_length_are_one_band():
    assert [row.pairs for row in evaluate_gaps(np.ones(8), facts(np.zeros(8))).by_length] == [8]


def test_each_source_has_its_own_accuracy_and_length_rule():
    got = evaluate_gaps(
        np.array([1.0, 1.0, -1.0, -1.0]), facts([1, -1, -1, -1], source=["web", "web", "crowd", "crowd"])
    )
    rows = [(row.source, row.pairs, row.accuracy.value, row.longer_wins) for row in got.by_source]
    assert rows == [("crowd", 2, 0.0, 0.0), ("web", 2, 1.0, 0.5)]


def test_without_sources_there_is_no_table_of_them():
    assert evaluate_gaps(np.ones(3), facts(np.ones(3))).by_source == ()


def test_gaps_in_the_order_of_the_votes_correlate_fully():
    votes = np.array([0.2, 1.0, 0.6, 0.4, 0.8, 0.1])
    got = evaluate_gaps(votes**3, facts(np.arange(6), votes=votes)).graded["votes"]
    assert got.spearman.value == pytest.approx(1)
    assert got.kendall.value == pytest.approx(1)
    assert got.pearson.value < 1


def test_pairs_without_a_grade_are_left_out_of_its_correlation():
    gap, grade = np.array([1.0, 2.0, 3.0, -9.0, 50.0]), np.array([1.0, 2.0, 2.0, np.nan, np.nan])
    got = evaluate_gaps(gap, facts(np.arange(5), grade=grade, ratings=np.full(5, np.nan))).graded
    assert list(got) == ["grade"]  # ratings: no pair has one
    assert got["grade"].kendall.pairs == 3
    assert got["grade"].kendall.value == pytest.approx(2 / math.sqrt(3 * 2))  # 2 of 3 concordant, 1 tie


def test_temperature_repairs_calibration_and_leaves_accuracy():
    rng = np.random.default_rng(0)
    size = np.abs(rng.normal(0, 2, 3000))
    gap = 4 * np.where(rng.random(3000) < 1 / (1 + np.exp(-size)), size, -size)
    got = evaluate_gaps(gap, facts(rng.normal(size=3000))).calibration
    assert got.temperature == pytest.approx(4, rel=0.1)
    assert got.after.ece < got.before.ece / 3
    assert got.after.log_loss < got.before.log_loss
    assert sum(row.pairs for row in got.after.table) == 3000


def test_a_model_worse_than_a_coin_has_no_temperature():
    got = evaluate_gaps(np.array([-1.0, -2.0, 1.0, -3.0]), facts(np.arange(4))).calibration
    assert got.temperature is None and got.after is None
    assert got.before.log_loss > math.log(2)


def test_rewards_are_described_where_they_are_given():
    chosen, rejected = np.array([3.0, 5.0]), np.array([1.0, 7.0])
    got = evaluate_gaps(
        chosen - rejected, facts(np.arange(2)), reward_chosen=chosen, reward_rejected=rejected
    )
    assert (got.reward.mean, got.reward.std) == (4.0, pytest.approx(math.sqrt(5)))  # of 3 5 1 7
    assert evaluate_gaps(chosen - rejected, facts(np.arange(2))).reward is None


@pytest.mark.parametrize("pairs", [1, 2, 3, 5])
@pytest.mark.parametrize("values", ["right", "wrong", "tied", "mixed", "equal but for rounding"])
def test_tiny_and_constant_inputs_give_null_and_never_nan(pairs, values):
    rng = np.random.default_rng(pairs)
    gap = {
        "right": np.ones(pairs),
        "wrong": -np.ones(pairs),
        "tied": np.zeros(pairs),
        "mixed": rng.normal(size=pairs),
        "equal but for rounding": 1 + 1e-15 * rng.normal(size=pairs),
    }[values]
    got = evaluate_gaps(
        gap,
        facts(np.arange(pairs), source=["web"] * pairs, votes=np.ones(pairs)),
        reward_chosen=gap,
        reward_rejected=np.zeros(pairs),
    )
    written = json.loads(json.dumps(got.to_dict(), allow_nan=False))
    assert written["pairs"] == pairs
    assert written["graded"]["votes"]["pearson"]["value"] is None  # the votes are all alike
    if pairs == 1:
        assert written["accuracy"]["low"] is None


def test_float32_gaps_of_a_model_are_taken_as_they_are():
    gap = np.array([2.0, -1.0, 0.5], dtype=np.float32)
    assert evaluate_gaps(gap, facts(np.arange(3))) == evaluate_gaps(
        gap.astype(np.float64), facts(np.arange(3))
    )


def test_the_same_seed_gives_the_same_results():
    rng = np.random.default_rng(0)
    gap, longer_by = rng.normal(0.5, 1, 100), rng.normal(size=100)
    first, second, other = (evaluate_gaps(gap, facts(longer_by), seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.accuracy.value == other.accuracy.value
    assert first.calibration.after.log_loss != other.calibration.after.log_loss


def test_a_gap_that_is_not_a_number_is_named():
    with pytest.raises(DataError, match="gap is not finite, got nan at pair 2"):
        evaluate_gaps(np.array([1.0, 2.0, np.nan]), facts(np.arange(3)))


def test_gaps_of_other_pairs_are_refused():
    with pytest.raises(ShapeError, match=r"gap \(4,\), prompt_ids \(3,\)"):
        evaluate_gaps(np.ones(4), facts(np.arange(3)))
