import math

import numpy as np
import pytest

from outweigh.metrics.calibration import (
    ReliabilityBin,
    brier,
    cross_fitted,
    equal_mass,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
)

LOG3 = math.log(3)  # sigma(log 3) = 3/4
QUARTER_WRONG = np.array([1.0, 1.0, 1.0, -1.0])  # right with probability 3/4: calibrated at |gap| = log 3


def calibrated_gaps(pairs, *, seed=0):
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(0, 2, pairs))
    return np.where(rng.random(pairs) < 1 / (1 + np.exp(-size)), size, -size)


def test_a_model_that_knows_nothing_has_brier_a_quarter_and_log_loss_of_a_coin():
    assert brier(np.zeros(3)) == 0.25
    assert log_loss(np.zeros(3)) == pytest.approx(math.log(2))


def test_log_loss_and_brier_of_three_to_one():
    gap = np.array([LOG3, -LOG3])  # p of the label: 3/4, 1/4
    assert log_loss(gap) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert brier(gap) == pytest.approx((1 / 16 + 9 / 16) / 2)


def test_log_loss_of_a_huge_wrong_gap_is_the_gap_and_does_not_overflow():
    assert log_loss(np.array([-1e5])) == pytest.approx(1e5)


def test_three_right_of_four_at_three_to_one_is_calibrated():
    table = reliability(LOG3 * QUARTER_WRONG)
    assert table == (ReliabilityBin(pytest.approx(0.75), 0.75, 4),)
    assert expected_calibration_error(table) == pytest.approx(0)


def test_always_right_at_three_to_one_is_a_quarter_too_modest():
    assert expected_calibration_error(reliability(np.full(4, LOG3))) == pytest.approx(0.25)


def test_calibration_error_weighs_bins_by_their_pairs():
    # 3 pairs at confidence 0.75 all right (off by 0.25), 1 tie: confidence 0.5, half right (off by 0).
    table = reliability(np.array([LOG3, LOG3, LOG3, 0.0]))
    assert [row.pairs for row in table] == [1, 3]
    assert expected_calibration_error(table) == pytest.approx(3 / 4 * 0.25)


def test_calibrated_gaps_have_almost_no_error_and_doubled_ones_have():
    draws = [calibrated_gaps(50_000, seed=seed) for seed in range(10)]
    # Sampling noise alone gives at most sqrt(10 / (2 pi 50,000)) = 0.0056 on average.
    assert np.mean([expected_calibration_error(reliability(gap)) for gap in draws]) < 0.0056
    assert all(expected_calibration_error(reliability(2 * gap)) > 0.05 for gap in draws)


def test_bins_of_equal_mass_hold_equally_many():
    assert equal_mass(np.array([8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0]), 4).tolist() == [
        3,
        0,
        3,
        0,
        2,
        1,
        2,
        1,
    ]


def test_equal_values_share_a_bin_so_the_order_of_rows_does_not_matter():
    gap = np.repeat([LOG3, -LOG3, 2 * LOG3], [30, 10, 60])
    shuffled = np.random.default_rng(0).permutation(gap)
    assert reliability(gap) == reliability(shuffled)
    assert [row.pairs for row in reliability(gap)] == [40, 60]


def test_more_bins_than_pairs_leave_one_pair_a_bin():
    assert [row.pairs for row in reliability(np.array([1.0, 2.0, -3.0]), bins=10)] == [1, 1, 1]


def test_bins_of_equal_width_are_cut_by_confidence_instead():
    # The edge of two bins over [0.5, 1] is at 0.75.
    gap = np.log([2.0, 9.0, 99.0])  # confidences 2/3, 0.9, 0.99
    assert [row.pairs for row in reliability(gap, bins=2, by="width")] == [1, 2]
    assert [row.pairs for row in reliability(np.array([0.0, 1e9]), bins=2, by="width")] == [1, 1]


def test_temperature_brings_the_gaps_to_their_accuracy():
    # sigma(2 log 3 / T) = 3/4 at T = 2.
    assert fit_temperature(2 * LOG3 * QUARTER_WRONG) == pytest.approx(2.0)


def test_temperature_is_in_units_of_the_gap():
    gap = calibrated_gaps(5_000)
    temperature = fit_temperature(gap)
    assert temperature == pytest.approx(1.0, abs=0.1)
    assert fit_temperature(1000 * gap) == pytest.approx(1000 * temperature)


def test_no_other_temperature_is_more_likely():
    gap = calibrated_gaps(500, seed=3) * 4
    temperature = fit_temperature(gap)
    assert log_loss(gap / temperature) < min(
        log_loss(gap / (t * temperature)) for t in (0.9, 0.99, 1.01, 1.1)
    )


@pytest.mark.parametrize(
    "gap",
    [
        [1.0, 2.0, 3.0],  # always right: T would be 0
        [0.0, 2.0],  # never wrong
        [1.0, -1.0],  # a coin: T would be infinite
        [-1.0, -2.0, 1.0],  # worse than a coin
        [0.0, 0.0],  # no gaps
    ],
)
def test_there_is_no_temperature_where_the_likelihood_has_no_maximum(gap):
    assert fit_temperature(np.array(gap)) is None


def test_each_half_is_divided_by_the_temperature_of_the_other():
    two, four = 2 * LOG3 * QUARTER_WRONG, 4 * LOG3 * QUARTER_WRONG  # temperatures 2 and 4
    scaled = cross_fitted(np.concatenate([two, four]), np.repeat([7, 9], 4), seed=0)
    np.testing.assert_allclose(scaled, np.concatenate([two / 4, four / 2]))


def test_pairs_of_one_prompt_are_never_on_both_sides_of_the_fit():
    gap, prompts = calibrated_gaps(600), np.random.default_rng(1).integers(0, 40, 600)
    divisor = gap / cross_fitted(gap, prompts, seed=5)
    assert all(np.ptp(divisor[prompts == prompt]) < 1e-9 for prompt in range(40))
    assert len(np.unique(divisor.round(9))) == 2


def test_cross_fitting_needs_two_groups_and_a_temperature_in_both_halves():
    assert cross_fitted(2 * LOG3 * QUARTER_WRONG, np.zeros(4), seed=0) is None
    assert cross_fitted(np.array([1.0, 1.0, -1.0, -1.0]), np.arange(4), seed=0) is None


def test_fitting_repairs_overconfidence_without_touching_accuracy():
    gap = 5 * calibrated_gaps(4_000)
    scaled = cross_fitted(gap, np.arange(4_000), seed=0)
    assert np.array_equal(np.sign(scaled), np.sign(gap))
    assert expected_calibration_error(reliability(scaled)) < expected_calibration_error(reliability(gap)) / 3
    assert log_loss(scaled) < log_loss(gap)
