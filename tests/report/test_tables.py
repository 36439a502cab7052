from outweigh.report.tables import MOST_ROWS, TABLES, table
from outweigh.report.texts import DASH


def rows(name, results):
    return {row[0]: list(row[1:]) for row in TABLES[name](results).rows}


def test_a_row_of_dashes_is_left_out_and_a_table_of_none_too():
    assert table("t", ["", "a"], [["x", DASH], ["y", "1"]]).rows == [["y", "1"]]
    assert table("t", ["", "a"], [["x", DASH]]) is None


def test_every_table_is_absent_without_data_and_there_with_it(results):
    assert {name for name, build in TABLES.items() if build({})} == set()
    assert {name for name, build in TABLES.items() if build(results)} == set(TABLES)


def test_training_and_evaluation_data_stand_side_by_side(results):
    built = TABLES["data"](results)
    assert list(built.head) == ["", "training", "evaluation"]
    assert rows("data", results)["dropped: identical responses"] == ["25", "0"]
    assert rows("data", results)["chosen is the longer one"] == ["70.1\u00a0%", "72.3\u00a0%"]


def test_without_evaluation_data_nothing_is_said_of_shared_prompts(results):
    del results["eval_data"]
    assert not any("trained on" in label or "both in" in label for label in rows("data", results))


def test_the_counts_of_tokens_may_be_those_of_a_training_run():
    run = {"tokens": {"items": 1200, "truncated_prompts": 3}}
    assert rows("tokens", {"train": {"model": run}}) == {
        "items tokenised": ["1,200"],
        "prompts truncated": ["3"],
    }


def test_a_count_that_is_new_to_the_report_is_shown_by_its_name():
    assert rows("data", {"data": {"pairs": 3, "emoji_only": 2}})["emoji only"] == ["2"]


def test_actions_are_counted_with_their_share():
    actions = {"keep": 60, "flip+margin": 40, "drop": 0}
    assert rows("repair", {"denoise": {"actions": actions}}) == {
        "keep": ["60", "60.0\u00a0%"],
        "flip+margin": ["40", "40.0\u00a0%"],
    }


def test_the_audit_is_told_with_its_trust(results):
    audit = rows("audit", results)
    assert audit["reward models"] == ["10"] and audit["recommendation"] == ["repair"]
    assert audit["AUROC on flips planted in this data"][0].startswith("0.897 ")


def test_models_stand_side_by_side_and_a_missing_number_is_a_dash(results):
    del results["evaluation"]["plain"]["calibration"]["temperature"]
    built = rows("evaluation", results)
    assert built["pairs"] == ["2,919", "2,919"]
    assert built["temperature fitted"][0] == DASH != built["temperature fitted"][1]


def test_the_largest_sources_come_first_and_the_caption_says_what_is_cut():
    sources = [{"source": f"s{i}", "pairs": i, "noise_rate": {"value": 0.1}} for i in range(60)]
    built = TABLES["noise"]({"audit": {"by_source": sources}})
    assert built.caption == "Wrong labels by source (the first 50 of 60)"
    assert len(built.rows) == MOST_ROWS and built.rows[0][0] == "s59"


def test_lengths_of_two_models_share_their_rows(results):
    built = TABLES["lengths"](results)
    assert len(built.rows) == 4 and len(built.rows[0]) == 4
    assert built.rows[0][0].startswith("\u2212")  # the first quarter holds shorter chosen responses


def test_the_comparison_names_its_models_and_does_not_round_p_to_nothing():
    split = {"both_right": 5, "only_a": 3, "only_b": 1, "both_wrong": 2, "p_value": 1e-9}
    built = rows("comparison", {"comparison": {"name_a": "new", "name_b": "old", "mcnemar": split}})
    assert built == {
        "both right": ["5"],
        "only new right": ["3"],
        "only old right": ["1"],
        "both wrong": ["2"],
        "McNemar's p": ["< 0.0001"],
    }


def test_alarms_come_with_cause_and_remedy(results):
    (alarm,) = TABLES["alarms"](results).rows
    assert alarm[0] == "overfitted" and alarm[3:] == ["repaired", "392"]


def test_several_steps_are_summed():
    assert rows("cost", {"seconds": {"audit": 30.0, "train": 60.0}})["together"] == ["1\u00a0min 30\u00a0s"]
    assert "together" not in rows("cost", {"seconds": {"audit": 30.0}})


def test_data_files_stand_with_their_hashes(results):
    assert rows("files", results)["arguments.test.jsonl"] == ["04ab" * 16]
