import pytest
import torch

from outweigh.errors import ConfigError
from outweigh.objectives.sources import Bound, bind


def from_columns(key, spec, **columns):
    tensors = {name: torch.tensor(values) for name, values in columns.items()}
    source = bind(key, spec, set(tensors))
    assert isinstance(source, Bound)
    return source(tensors)


def test_strength_is_the_raw_signed_margin_unless_scaled_or_clipped():
    strength = [2.0, -3.0]
    torch.testing.assert_close(
        from_columns("margin", "strength", strength=strength), torch.tensor([2.0, -3.0])
    )
    spec = {"source": "strength", "scale": 0.5, "clip": 1.2}  # 1.0 stays, -1.5 is clipped
    torch.testing.assert_close(from_columns("margin", spec, strength=strength), torch.tensor([1.0, -1.2]))


def test_the_rating_margin_is_the_difference_of_the_grades():
    margin = from_columns("margin", "rating", rating_chosen=[8.0, 3.0], rating_rejected=[5.0, 3.0])
    torch.testing.assert_close(margin, torch.tensor([3.0, 0.0]))


def test_votes_become_a_flip_rate_that_never_reaches_a_half():
    rate = from_columns(
        "flip_rate",
        "votes",
        votes_chosen=[5.0, 3.0, 1.0],
        votes_rejected=[0.0, 1.0, 4.0],
        votes_equal=[0.0, 1.0, 0.0],
    )
    # (0 + .5) / 6, (1 + .5 + .5) / 6, and a majority against the label held at the largest rate
    torch.testing.assert_close(rate, torch.tensor([0.5 / 6, 2.0 / 6, 0.499]))


def test_auto_is_the_column_where_there_is_one_and_nothing_where_there_is_none():
    torch.testing.assert_close(from_columns("weight", "auto", weight=[2.0]), torch.tensor([2.0]))
    assert bind("weight", "auto", {"margin"}) is None


def test_a_column_may_have_any_name():
    spec = {"source": "column", "column": "grade", "scale": 2.0}
    torch.testing.assert_close(from_columns("margin", spec, grade=[1.0, 2.0]), torch.tensor([2.0, 4.0]))


def test_a_row_of_k_responses_weighs_as_one_pair():
    torch.testing.assert_close(
        from_columns("weight", "row", row_pairs=[6.0, 1.0]), torch.tensor([1 / 6, 1.0])
    )


def test_numbers_are_taken_as_they_are_within_their_domain():
    assert bind("margin", -0.5, set()) == -0.5
    with pytest.raises(ConfigError, match=r"flip_rate: got 0.5, want a number from 0.0 to 0.499"):
        bind("flip_rate", 0.5, set())
    with pytest.raises(ConfigError, match="weight: got -1"):
        bind("weight", -1, set())


def test_what_can_not_be_bound_names_the_choices():
    with pytest.raises(ConfigError, match="margin: got 'strenght', want a number or one of none, auto"):
        bind("margin", "strenght", {"strength"})
    with pytest.raises(ConfigError, match="no column strength, only margin"):
        bind("margin", "strength", {"margin"})
    with pytest.raises(ConfigError, match="unknown option clipp, want scale, clip"):
        bind("margin", {"source": "strength", "clipp": 1}, {"strength"})
