import io
from functools import partial

import numpy as np
from rich.console import Console

from outweigh.evaluation import evaluate
from outweigh.evaluation.compare import compare
from outweigh.evaluation.facts import PairFacts
from outweigh.evaluation.tables import comparison_table, evaluation_tables, models_table, shown
from outweigh.metrics.intervals import Estimate

evaluate_gaps = partial(evaluate.evaluate_gaps, resamples=50)

FACTS = PairFacts(
    prompt_ids=np.arange(4),
    chosen_characters=np.array([9.0, 9.0, 2.0, 9.0]),
    rejected_characters=np.array([5.0, 5.0, 5.0, 5.0]),
    source=np.array(["web", "web", "crowd", "crowd"], dtype=object),
)
GAP = np.array([1.0, 2.0, 3.0, -1.0])


def printed(table):
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def line(text, label):
    return next(row for row in text.splitlines() if label in row)


def test_an_ensemble_has_lines_of_its_own():
    text = printed(models_table({"a": evaluate_gaps(GAP, FACTS, gap_MB=np.stack([GAP, GAP]))}, title="t"))
    assert "0.000 [0.000, 0.000]" in line(text, "disputed among them")
    assert line(text, "accuracy, disputed").split()[-2] == "-"
    assert "disputed" not in printed(models_table({"a": evaluate_gaps(GAP, FACTS)}, title="t"))


def test_an_estimate_is_shown_with_its_interval_and_sign():
    assert shown(Estimate(0.794, 0.7791, 0.8089, "pair", 40, 40)) == "0.794 [0.779, 0.809]"
    assert shown(Estimate(0.02, -0.01, 0.05, "pair", 40, 40), signed=True) == "+0.020 [-0.010, +0.050]"


def test_what_is_missing_is_a_dash_and_what_can_not_be_resampled_a_value_alone():
    assert shown(Estimate(None, None, None, "pair", 1, 1)) == "-"
    assert shown(Estimate(0.5, None, None, "prompt", 1, 3)) == "0.500"


def test_one_evaluation_shows_accuracy_the_length_rule_the_unit_and_each_source():
    text = printed(evaluation_tables(evaluate_gaps(GAP, FACTS), title="minilm on test"))
    assert "minilm on test" in text
    assert "0.750 [" in line(text, "accuracy")
    assert "0.750 [" in line(text, "longer one wins")
    assert "4 pairs" in line(text, "intervals by")
    assert "crowd" in text and "web" in text
    assert "+4" in text and "-3" in text  # the bands by length


def test_models_stand_side_by_side():
    text = printed(
        models_table({"plain": evaluate_gaps(-GAP, FACTS), "repaired": evaluate_gaps(GAP, FACTS)}, title="t")
    )
    assert "plain" in text and "repaired" in text
    accuracy = line(text, "accuracy")
    assert accuracy.index("0.250 [") < accuracy.index("0.750 [")


def test_a_number_that_one_model_lacks_is_a_dash_in_its_column():
    graded = PairFacts(
        FACTS.prompt_ids, FACTS.chosen_characters, FACTS.rejected_characters, None, {"votes": GAP}
    )
    text = printed(models_table({"a": evaluate_gaps(GAP, FACTS), "b": evaluate_gaps(GAP, graded)}, title="t"))
    first, second = line(text, "gap and votes, Pearson").split("│")[2:4]
    assert first.strip() == "-" and second.strip().startswith("+1.000")


def test_a_comparison_names_the_models_and_counts_their_pairs():
    text = printed(comparison_table(compare(GAP, -GAP, FACTS), name_a="repaired", name_b="plain"))
    assert "repaired against plain" in text
    assert line(text, "repaired better").split("│")[2].strip() == "3"
    assert line(text, "plain better").split("│")[2].strip() == "1"
    assert "+0.500" in line(text, "difference")


def test_a_name_in_brackets_is_not_taken_for_markup():
    bracketed = PairFacts(
        FACTS.prompt_ids,
        FACTS.chosen_characters,
        FACTS.rejected_characters,
        np.array(["[web]"] * 4, dtype=object),
    )
    text = printed(evaluation_tables(evaluate_gaps(GAP, bracketed), title="[final]"))
    assert "[web]" in text and "[final]" in text
