"""What each policy does to four pairs: strong, ambiguous, doubtful, contradicted."""

import numpy as np
import pytest

from outweigh.denoising.policies import POLICIES, RepairOptions, check_options, repair
from outweigh.errors import ConfigError, DataError, ShapeError

STRENGTH = np.array([3.0, 0.1, -0.5, -2.5])
SPREAD = np.array([0.2, 0.9, 0.1, 0.3])
WRONG = np.array([0.01, 0.2, 0.4, 0.9])


def repaired(policy, **options):
    return repair(policy, STRENGTH, SPREAD, WRONG, RepairOptions(**options))


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_keeps_flip_rates_in_their_range_and_says_what_it_did(policy):
    result = repaired(policy)
    assert ((result.flip_rate >= 0) & (result.flip_rate < 0.5)).all()
    assert np.array_equal(["flip" in action for action in result.action], result.flip)
    assert np.array_equal(["drop" in action for action in result.action], result.drop)


def test_keep_changes_nothing():
    result = repaired("keep")
    assert result.action.tolist() == ["keep"] * 4 and result.sets == ()
    assert not (result.flip.any() or result.drop.any() or result.margin.any() or result.flip_rate.any())


def test_flip_takes_the_labels_that_are_likelier_wrong_and_turns_their_strength():
    result = repaired("flip")
    assert result.action.tolist() == ["keep", "keep", "keep", "flip"]
    assert result.strength.tolist() == [3.0, 0.1, -0.5, 2.5]


def test_a_fraction_takes_the_most_doubtful_first():
    assert repaired("flip", fraction=0.5).flip.tolist() == [False, False, True, True]
    assert repaired("drop", fraction=0.25).action.tolist() == ["keep", "keep", "keep", "drop"]
    assert not repaired("flip", fraction=0.0).flip.any()


def test_of_pairs_as_likely_wrong_the_weakest_come_first():
    strength, alike = np.array([0.3, -2.0, 1.0, -0.1]), np.full(4, 0.2)
    found = repair("flip", strength, np.zeros(4), alike, RepairOptions(fraction=0.5))
    assert found.flip.tolist() == [False, True, False, True]


def test_smooth_puts_the_wrong_probability_under_one_half_on_negative_strengths():
    result = repaired("smooth")
    np.testing.assert_allclose(result.flip_rate, [0, 0, 0.4, 0.499])
    assert result.action.tolist() == ["keep", "keep", "smooth", "smooth"]


def test_smooth_takes_a_constant_a_band_and_a_spread():
    assert repaired("smooth", smoothing=0.2).flip_rate.tolist() == [0, 0, 0.2, 0.2]
    assert repaired("smooth", smooth_band=0.5, smoothing=0.2).flip_rate.tolist() == [0, 0.2, 0.2, 0.2]
    band = {"smooth_band": 0.6, "smooth_floor": -0.6, "smoothing": 0.2}  # of strengths 3, .1, -.5 and -2.5
    assert repaired("smooth", **band).flip_rate.tolist() == [0, 0.2, 0.2, 0]
    assert repaired("smooth", smooth_spread=0.25, smoothing=0.2).flip_rate.tolist() == [0, 0.2, 0.2, 0.2]


def test_smooth_takes_a_share_of_the_pairs_the_weakest_first():
    assert repaired("smooth", fraction=0.75, smoothing=0.2).flip_rate.tolist() == [0, 0.2, 0.2, 0.2]
    assert repaired("smooth+margin", fraction=0.25).flip_rate.tolist() == [0, 0, 0, 0.499]


@pytest.mark.parametrize(
    ("policy", "options", "said"),
    [
        ("margin", {"fraction": 0.2}, "policy margin: reads no fraction, want margin_clip, margin_scale"),
        (
            "flip",
            {"smoothing": 0.1, "margin_scale": 2.0},
            "policy flip: reads no smoothing, margin_scale, want fr",
        ),
        ("keep", {"fraction": 0.2}, "policy keep: reads no fraction, want no options"),
        ("smooth", {"fraction": 0.2, "smooth_band": 0.5}, "fraction: got a band of strengths, too"),
    ],
)
def test_an_option_that_a_policy_does_not_read_is_refused(policy, options, said):
    with pytest.raises(ConfigError, match=said):
        check_options(policy, RepairOptions(**options))
    check_options("smooth+margin", RepairOptions(fraction=0.2, margin_clip=1.0))


def test_margin_is_the_signed_strength_scaled_and_clipped():
    assert repaired("margin").margin.tolist() == [2.0, 0.1, -0.5, -2.0]
    assert repaired("margin", margin_scale=0.5, margin_clip=None).margin.tolist() == [1.5, 0.05, -0.25, -1.25]


def test_the_margin_of_a_flipped_pair_is_the_negated_strength():
    result = repaired("flip+margin", margin_clip=None)
    assert result.margin.tolist() == [3.0, 0.1, -0.5, 2.5]
    assert result.action.tolist() == ["margin", "margin", "margin", "flip+margin"]


def test_after_a_flip_the_doubt_that_is_left_is_one_minus_the_probability():
    result = repaired("flip+smooth")
    np.testing.assert_allclose(result.flip_rate, [0.01, 0.2, 0.4, 0.1])
    assert result.action.tolist() == ["smooth", "smooth", "smooth", "flip+smooth"]


def test_smooth_and_margin_together_set_both():
    result = repaired("smooth+margin")
    assert result.sets == ("flip_rate", "margin")
    assert result.action.tolist() == ["margin", "margin", "smooth+margin", "smooth+margin"]


def test_bad_names_options_and_arrays_are_refused():
    with pytest.raises(ConfigError, match="got 'swap', want one of keep, flip"):
        repaired("swap")
    with pytest.raises(ConfigError, match=r"fraction: got 1\.5"):
        RepairOptions(fraction=1.5)
    with pytest.raises(ConfigError, match=r"smoothing: got 0\.5"):
        RepairOptions(smoothing=0.5)
    with pytest.raises(ConfigError, match=r"smooth_floor: got 0\.0, want less than smooth_band"):
        RepairOptions(smooth_floor=0.0)
    with pytest.raises(ConfigError, match="margin_clip: got 0"):
        RepairOptions(margin_clip=0)
    with pytest.raises(ShapeError):
        repair("flip", STRENGTH, SPREAD, WRONG[:3])
    with pytest.raises(DataError, match="not finite"):
        repair("flip", STRENGTH, SPREAD, np.array([0.1, np.nan, 0.1, 0.1]))


def test_a_papers_repair_has_the_papers_options_and_no_others():
    # a tenth of ten pairs is flipped; its margin is the negated strength, unclipped as all others are
    strength = np.array([-4.0, *np.linspace(0.5, 4.5, 9)])
    wrong = 1 / (1 + np.exp(strength))
    result = repair("secrets-flip+margin", strength, np.zeros(10), wrong)
    assert result.flip.tolist() == [True] + [False] * 9
    assert result.margin.tolist() == [4.0, *np.linspace(0.5, 4.5, 9)]
    soft = repair("secrets-soft", strength, np.zeros(10), wrong)
    assert soft.flip_rate.tolist() == [0.2] + [0.0] * 9
    with pytest.raises(
        ConfigError, match=r"policy secrets-flip: is a paper's, with its own options. Take flip"
    ):
        repair("secrets-flip", strength, np.zeros(10), wrong, RepairOptions(fraction=0.3))
