"""Shaped rewards, by hand."""

import numpy as np
import pytest

from outweigh.align.shaping import ShapingConfig, shaped
from outweigh.errors import ConfigError

REWARD = np.array([-8.0, 0.0, 2.0, 30.0])


def test_rewards_beyond_five_are_cut_and_others_left():
    np.testing.assert_array_equal(shaped(REWARD, ShapingConfig()), [-5, 0, 2, 5])
    np.testing.assert_array_equal(shaped(REWARD, ShapingConfig(clip=None)), REWARD)


def test_against_a_reference_it_is_the_chance_to_be_preferred_without_overflow():
    config = ShapingConfig(against="reference")
    found = shaped(np.array([0.0, np.log(3.0), 1e4, -1e4]), config, np.zeros(4))
    np.testing.assert_allclose(found, [0.5, 0.75, 1.0, 0.0])


def test_whitened_rewards_have_mean_zero_and_deviation_one_also_where_all_are_equal():
    found = shaped(REWARD, ShapingConfig(whiten=True))
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-12)
    np.testing.assert_array_equal(shaped(np.ones(3), ShapingConfig(whiten=True)), np.zeros(3))


@pytest.mark.parametrize("settings", [{"clip": 0.0}, {"clip": -1.0}, {"against": "gold"}])
def test_settings_without_a_sense_are_refused(settings):
    with pytest.raises(ConfigError, match="got"):
        ShapingConfig(**settings)
