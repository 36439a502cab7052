import pytest

from outweigh.report.summary import key_figures, verdict


def figures(results):
    return {figure.label: figure for figure in key_figures(results)}


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.05, "The repaired model is better than the plain one: it gains 3.0"),
        (-0.05, -0.01, "The repaired model is worse than the plain one: it loses 3.0"),
        (-0.01, 0.05, "The repaired model and the plain one can't be told apart"),
    ],
)
def test_a_difference_counts_only_if_its_interval_leaves_zero_out(low, high, said):
    value = -0.03 if high < 0 else 0.03
    assert verdict({"comparison": {"difference": {"value": value, "low": low, "high": high}}}).startswith(
        said
    )


def test_an_audit_alone_says_whether_to_repair():
    noise = {"value": 0.2047, "low": 0.19, "high": 0.22}
    repair = {"audit": {"noise_rate": noise, "trust": {"recommendation": "repair"}}}
    keep = {"audit": {"noise_rate": noise, "trust": {"recommendation": "keep"}}}
    assert verdict(repair) == (
        "About 20.5\u00a0% of the labels look wrong, and the audit can be trusted to repair them."
    )
    assert "keep the labels as they are" in verdict(keep)
    assert figures(repair)["Trusted: repair"].tone == "good"
    assert figures(keep)["Not trusted: keep"].tone == "caution"


def test_a_model_that_only_reads_length_is_not_praised():
    def evaluated(low):
        gain = {"value": 0.02, "low": low, "high": 0.05}
        return {"evaluation": {"model": {"accuracy": {"value": 0.74}, "gain_over_length": gain}}}

    assert verdict(evaluated(0.01)).endswith("held-out pairs, more than the rule “the longer one wins”.")
    assert verdict(evaluated(-0.01)).endswith("not clearly more than the rule “the longer one wins”.")


def test_training_or_data_alone_have_a_sentence_and_nothing_has_none():
    assert verdict({"train": {"model": {"pairs": 1200}}}) == "The model was trained on 1,200 pairs."
    assert verdict({"train": {"plain": {"pairs": 1200}}}) == "The plain model was trained on 1,200 pairs."
    assert verdict({"data": {"pairs": 7}}) == "7 pairs were read."
    assert verdict({}) is None and key_figures({}) == []


def test_the_whole_run_is_told_in_six_figures(results):
    told = figures(results)
    assert list(told) == ["Pairs", "Wrong labels", "Trusted: repair", "Repaired", "Accuracy", "Alarms"]
    assert told["Pairs"].detail == "of 8,402 rows, 28 dropped"
    assert told["Wrong labels"].detail == "estimated; 20.0\u00a0% were planted"  # 1675 / 8374
    assert told["Repaired"].value == "1,742 pairs"  # 1419 + 323
    assert told["Accuracy"].value == "0.762\u00a0→\u00a00.791" and told["Accuracy"].tone == "good"
    assert told["Alarms"].detail == "overfitted (repaired)"


def test_a_repair_that_changes_nothing_says_so():
    assert figures({"denoise": {"actions": {"keep": 5}}})["Repaired"].value == "nothing"


def test_quiet_training_is_good_news(results):
    results["train"]["repaired"]["alarms"] = {}
    assert figures(results)["Alarms"].value == "none" and figures(results)["Alarms"].tone == "good"
