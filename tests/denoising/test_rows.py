"""The rows that repair writes."""

import numpy as np
import pytest

from outweigh.denoising.policies import RepairOptions, repair
from outweigh.denoising.rows import RowCounts, repaired_row

ROW = {"prompt": "p", "chosen": "a", "rejected": "b", "votes_chosen": 1, "votes_rejected": 4, "topic": "t"}
STRENGTH, SPREAD, WRONG = np.array([2.0, -1.0]), np.array([0.5, 0.25]), np.array([0.1, 0.8])


def written(row, place, policy, **options):
    counts = RowCounts()
    found = repair(policy, STRENGTH, SPREAD, WRONG, RepairOptions())
    return repaired_row(row, found, place, row_number=7, counts=counts, **options), counts


def test_a_kept_row_keeps_every_column_and_gains_floats():
    row, counts = written(ROW, 0, "keep")
    added = {"margin": 0.0, "flip_rate": 0.0, "weight": 1.0, "strength": 2.0, "spread": 0.5}
    assert row == ROW | added | {"wrong_probability": 0.1, "action": "keep", "row": 7}
    assert all(type(row[name]) is float for name in added)
    assert counts.actions == {"keep": 1}


def test_a_flipped_row_swaps_its_texts_and_votes_and_turns_its_strength():
    row, _ = written(ROW, 1, "flip")
    assert (row["chosen"], row["rejected"], row["votes_chosen"], row["votes_rejected"]) == ("b", "a", 4, 1)
    assert (row["strength"], row["action"], row["topic"]) == (1.0, "flip", "t")


def test_flip_and_margin_write_the_negated_strength_as_margin():
    row, _ = written(ROW, 1, "flip+margin")
    assert row["margin"] == 1.0 and type(row["margin"]) is float


def test_a_users_margin_on_a_flipped_row_is_zeroed_and_counted_or_negated_if_signed():
    row, counts = written(ROW | {"margin": 0.7}, 1, "flip")
    assert row["margin"] == 0.0 and counts.margins_zeroed == 1
    row, counts = written(ROW | {"margin": 0.7}, 1, "flip", margin_is_signed=True)
    assert row["margin"] == -0.7 and (counts.margins_negated, counts.margins_zeroed) == (1, 0)


def test_a_users_values_stay_on_kept_rows_and_the_policys_win_where_it_decides():
    own = ROW | {"margin": 0.7, "flip_rate": 0.3, "weight": 2}
    row, counts = written(own, 0, "flip")
    assert (row["margin"], row["flip_rate"], row["weight"], counts.margins_zeroed) == (0.7, 0.3, 2.0, 0)
    assert written(own, 0, "margin")[0]["margin"] == 2.0
    assert written(own, 1, "smooth")[0]["flip_rate"] == 0.499


def test_a_users_flip_rate_on_a_flipped_row_is_zeroed_and_counted():
    row, counts = written(ROW | {"flip_rate": 0.3}, 1, "flip")
    assert row["flip_rate"] == 0.0 and counts.flip_rates_zeroed == 1


def test_the_pairs_of_a_row_of_k_responses_weigh_as_one_unless_the_user_says_otherwise():
    assert written(ROW | {"row_pairs": 3.0}, 0, "keep")[0]["weight"] == pytest.approx(1 / 3)
    assert written(ROW | {"row_pairs": 3.0, "weight": 2}, 0, "keep")[0]["weight"] == 2.0


def test_a_dropped_row_is_counted_and_not_written():
    row, counts = written(ROW, 1, "drop")
    assert row is None and counts.actions == {"drop": 1}


def test_the_users_row_is_not_changed():
    before = dict(ROW)
    written(ROW, 1, "flip+smooth")
    assert before == ROW


@pytest.mark.parametrize("policy", ["keep", "flip", "flip+smooth"])
def test_the_flip_rate_of_each_policy_on_a_flipped_pair(policy):
    row, _ = written(ROW, 1, policy)
    assert row["flip_rate"] == pytest.approx({"keep": 0.0, "flip": 0.0, "flip+smooth": 0.2}[policy])
