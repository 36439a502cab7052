import math

import numpy as np
from markupsafe import Markup

from outweigh.report.texts import (
    DASH,
    anything,
    at,
    count,
    duration,
    estimate,
    moment,
    number,
    percent,
    present,
    shown_text,
    size,
)


def test_what_is_missing_leaves_mappings_and_keeps_its_place_in_lists():
    results = {"a": None, "b": math.nan, "c": {"d": math.inf, "e": np.float64(0.5)}, "f": (1, None, math.nan)}
    assert present(results) == {"c": {"e": 0.5}, "f": [1, None, None]}


def test_arrays_and_numpy_scalars_become_plain_ones():
    plain = present({"counts": np.array([1, 2]), "some": np.bool_(True)})
    assert plain == {"counts": [1, 2], "some": True} and type(plain["counts"][0]) is int


def test_a_path_that_leads_nowhere_is_none():
    assert at({"a": {"b": 1}}, "a", "b") == 1
    assert at({"a": {"b": 1}}, "a", "b", "c") is None and at(None, "a") is None


def test_a_long_text_is_cut_and_its_true_length_told():
    shown = shown_text("x" * 1_000_000)
    assert shown == "x" * 4000 + " … [cut: 1,000,000 characters in all]"


def test_what_can_not_be_seen_is_named_and_what_can_not_be_encoded_too():
    assert shown_text("a\u202eb\u200bc\x00\ud800") == "a[U+202E]b[U+200B]c[U+0000][U+D800]"


def test_scripts_that_need_joiners_and_lines_stay_as_they_are():
    text = "می\u200cخواهم 👩\u200d👧\n\tzwei"
    assert shown_text(text) == text


def test_numbers_have_a_real_minus_and_no_signed_zero():
    assert number(-1.25, ".1f") == "\u22121.2"
    assert number(-0.0001) == "0.000" and number(0.0001, "+.3f") == "0.000"
    assert number(5e-5, ".2g") == "5e\u22125"
    assert count(1234567) == "1,234,567"
    assert number(None) == number("3") == number(True) == DASH


def test_an_estimate_carries_its_interval_apart():
    shown = estimate({"value": 0.7941, "low": 0.7791, "high": 0.8089})
    assert shown == '0.794 <span class="interval">[0.779,\u00a00.809]</span>' and isinstance(shown, Markup)
    assert estimate(0.5) == estimate({"value": 0.5}) == "0.500"
    assert estimate({"value": 0.2047, "low": 0.19, "high": 0.22}, per_cent=True).startswith("20.5\u00a0% ")
    assert estimate({"low": 0.1}) == estimate(None) == DASH


def test_shares_times_and_sizes_are_in_the_units_of_a_reader():
    assert percent(0.2047) == "20.5\u00a0%"
    assert duration(1.84) == "1.8\u00a0s"
    assert duration(1421) == "23\u00a0min 41\u00a0s"  # 23 * 60 + 41
    assert duration(7260) == "2\u00a0h 1\u00a0min"
    assert size(1_710_000_000) == "1.6\u00a0GiB"  # 1.71e9 / 2**30 = 1.593
    assert size(200 * 2**20) == "200\u00a0MiB"
    assert (
        moment("2026-11-20T14:12:09+00:00") == "2026-11-20 14:12 UTC" and moment("yesterday") == "yesterday"
    )
    assert duration(None) == size(None) == percent(None) == DASH and moment(None) is None


def test_a_value_of_unknown_meaning_is_shown_by_its_kind():
    assert anything(12000) == "12,000" and anything(0.12345) == "0.123" and anything(True) == "yes"
    assert anything({"max_tokens": 256, "on_long": "drop"}) == "max_tokens 256, on_long drop"
    assert anything([1, "a"]) == "1, a"
    assert anything([]) == anything({}) == anything(None) == DASH
