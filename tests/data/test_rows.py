import numpy as np
import pytest

from outweigh.data.records import Message
from outweigh.data.rows import row_candidates, row_pairs, row_ranking, unread_columns
from outweigh.data.writing import swap_row
from outweigh.errors import DataError


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def only(row, keep=()):
    """The one pair of a row."""
    (pair,) = row_pairs(row, 0, "here", keep).pairs
    return pair


def said(text):
    return [tuple(message) for message in text]


def test_strings_with_a_prompt_are_a_user_s_and_an_assistant_s_message():
    pair = only({"prompt": "Why?", "chosen": "So.", "rejected": "No."})
    assert said(pair.prompt) == [("user", "Why?")]
    assert said(pair.chosen) == [("assistant", "So.")]
    assert said(pair.rejected) == [("assistant", "No.")]


def test_strings_without_a_prompt_are_verbatim():
    pair = only({"chosen": "a b", "rejected": "a c"})
    assert (said(pair.prompt), said(pair.chosen), said(pair.rejected)) == (
        [],
        [("text", "a b")],
        [("text", "a c")],
    )


@pytest.mark.parametrize("name", ["question", "input"])
def test_a_prompt_may_be_called_question_or_input(name):
    assert said(only({name: "Why?", "chosen": "So.", "rejected": "No."}).prompt) == [("user", "Why?")]


def test_messages_with_the_prompt_apart_and_inside_are_the_same_pair():
    apart = only({"prompt": [user("Why?")], "chosen": [bot("So.")], "rejected": [bot("No.")]})
    inside = only({"chosen": [user("Why?"), bot("So.")], "rejected": [user("Why?"), bot("No.")]})
    both = only(
        {"prompt": "Why?", "chosen": [user("Why?"), bot("So.")], "rejected": [user("Why?"), bot("No.")]}
    )
    assert apart == inside == both


def test_a_system_message_before_a_prompt_given_twice_stays_in_the_prompt():
    system = {"role": "system", "content": "Be brief."}
    texts = {"chosen": [system, user("Why?"), bot("So.")], "rejected": [system, user("Why?"), bot("No.")]}
    pair = only({"prompt": "Why?", **texts})
    assert said(pair.prompt) == [("system", "Be brief."), ("user", "Why?")]
    assert said(pair.chosen) == [("assistant", "So.")]


def test_ranked_responses_become_every_pair_but_the_ties():
    found = row_pairs({"prompt": "p", "responses": ["a", "b", "c"], "ranks": [2, 1, 2]}, 7, "here")
    # Rank 1 (b) beats both others; a and c are tied.
    assert [(said(p.chosen)[0][1], said(p.rejected)[0][1]) for p in found.pairs] == [("b", "a"), ("b", "c")]
    assert found.tied == 1
    assert [p.columns for p in found.pairs] == [
        {"chosen_index": 1.0, "rejected_index": 0.0, "row_pairs": 2.0},
        {"chosen_index": 1.0, "rejected_index": 2.0, "row_pairs": 2.0},
    ]
    assert {p.row for p in found.pairs} == {7}


@pytest.mark.parametrize("name", ["ratings", "gold"])
def test_of_rated_responses_the_higher_is_chosen_and_both_ratings_come_along(name):
    pair = only({"prompt": "p", "responses": ["a", "b"], name: [0.5, 3]})
    assert said(pair.chosen) == [("assistant", "b")]
    assert (pair.columns["rating_chosen"], pair.columns["rating_rejected"]) == (3.0, 0.5)


def test_lists_of_chosen_and_rejected_strings_are_crossed():
    found = row_pairs({"prompt": "p", "chosen": ["a", "b"], "rejected": ["c", "d", "e"]}, 0, "here")
    assert len(found.pairs) == 2 * 3
    assert found.tied == 0  # within a list nothing is ranked
    places = [(p.columns["chosen_index"], p.columns["rejected_index"]) for p in found.pairs]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_the_released_strength_data_is_a_history_and_a_last_response():
    row = {
        "chosen": ["Hi", "Hello", "Why?", "So."],
        "rejected": ["Hi", "Hello", "Why?", "No."],
        "mean preference difference": -0.3,
        "std preference difference": 0.4,
        "chosen score list": [0.1, 0.2],
        "rejected score list": [0.5, 0.4],
        "GPT4 label": 0,
    }
    pair = only(row)
    assert said(pair.prompt) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
    assert said(pair.chosen) == [("assistant", "So.")]
    assert pair.columns == {
        "mean_difference": -0.3,
        "std_difference": 0.4,
        "chosen_scores": [0.1, 0.2],
        "rejected_scores": [0.5, 0.4],
        "gpt4_label": 0.0,
    }


@pytest.mark.parametrize("name", ["score_{}", "{}_score", "{}_rating", "{}-rating"])
def test_ratings_are_read_by_the_names_that_ultrafeedbacks_forms_give_them(name):
    row = {
        "prompt": "p",
        "chosen": "a",
        "rejected": "b",
        name.format("chosen"): 8,
        name.format("rejected"): 4.5,
    }
    assert only(row).columns == {"rating_chosen": 8.0, "rating_rejected": 4.5}
    assert only(row | {"rating_chosen": 1.0, "rating_rejected": 0.0}).columns["rating_chosen"] == 1.0
    for words in ("good", None, True, float("nan"), [8]):
        assert only(row | {name.format("chosen"): words, name.format("rejected"): words}).columns == {}
    assert only(swap_row(row)).columns == {"rating_chosen": 4.5, "rating_rejected": 8.0}


def test_an_empty_response_and_identical_ones_are_dropped_and_counted():
    blank = row_pairs({"prompt": "p", "chosen": " \n", "rejected": "b"}, 0, "here")
    same = row_pairs({"prompt": "p", "chosen": "b", "rejected": "b"}, 0, "here")
    assert (blank.pairs, blank.empty, blank.identical) == ([], 1, 0)
    assert (same.pairs, same.empty, same.identical) == ([], 0, 1)


def test_a_pair_is_a_ranking_of_two_and_ties_stay_in_a_ranking():
    assert row_ranking({"chosen": "a", "rejected": "b"}, 0, "here").ranks == (1.0, 2.0)
    ranking = row_ranking({"prompt": "p", "responses": ["a", "b", "c"], "ratings": [1, 5, 1]}, 0, "here")
    assert ranking.ranks == (-1.0, -5.0, -1.0)  # lower is better: b first
    assert ranking.responses[1] == (Message("assistant", "b"),)


def test_a_pair_is_two_candidates_whose_label_is_not_read():
    row = {"prompt": "Say.", "chosen": "Yes.", "rejected": "No."}
    found = row_candidates(row, 0, "here")
    assert [response[0].content for response in found.responses] == ["Yes.", "No."] and found.gold is None
    assert len(row_candidates(row | {"margin": None}, 0, "here").responses) == 2  # nor what belongs to it


def test_unlabelled_responses_are_candidates_but_no_pairs():
    row = {"prompt": "p", "responses": ["a", "b"]}
    assert row_candidates(row, 0, "here").gold is None
    assert row_candidates({**row, "gold": [1, 2]}, 0, "here").gold == (1.0, 2.0)
    with pytest.raises(DataError, match="no label for 'responses', want 'ranks', 'ratings' or 'gold'"):
        row_pairs(row, 0, "here")


def test_optional_and_kept_columns_come_along_and_others_are_named_as_unread():
    row = {"chosen": "a", "rejected": "b", "margin": 1, "grade": 2, "kind": "x", "weigth": 1, "id": 3}
    assert only(row, keep=("grade", "kind")).columns == {"margin": 1.0, "grade": 2.0, "kind": "x"}
    assert unread_columns(row, keep=("grade", "kind")) == {"weigth": "weight", "id": ""}


P = {"prompt": "p", "chosen": "a", "rejected": "b"}
K = {"prompt": "p", "responses": ["a", "b"]}
BAD = {
    "a column is missing": (
        {"prompt": "p", "chosen": "a"},
        r"no column 'rejected', got prompt, chosen, want",
    ),
    "a column is misspelt": (
        {"prompt": "p", "chosen": "a", "rejeted": "b"},
        r"Did you mean 'rejeted'\? Rename it",
    ),
    "the prompt is misspelt": (
        {"promt": "p", "chosen": "a", "rejected": "b"},
        r"no column 'prompt' but 'promt'",
    ),
    "the prompt is an instruction": (
        {"instruction": "p", "chosen": "a", "rejected": "b"},
        "but 'instruction'",
    ),
    "a text is null": ({**P, "chosen": None}, r"'chosen' is null, want a string or a list"),
    "a text is a number": ({**P, "rejected": 3}, r"'rejected' is 3 \(int\), want a string"),
    "the prompt is null": ({**P, "prompt": None}, r"'prompt' is null"),
    "texts of two kinds": ({**P, "rejected": [bot("b")]}, r"differ in type, got str and list"),
    "an empty list": ({**P, "chosen": [], "rejected": [bot("b")]}, r"'chosen' is an empty list"),
    "no messages": ({**P, "chosen": [3], "rejected": [4]}, r"chosen\[0\] is 3, want \{'role'"),
    "an unknown role": (
        {**P, "chosen": [{"role": "asistant", "content": "a"}], "rejected": [bot("b")]},
        r"chosen\[0\] has the unknown role 'asistant', want system.*Did you mean 'assistant'\?",
    ),
    "another convention's role": (
        {**P, "chosen": [{"role": "gpt", "content": "a"}], "rejected": [bot("b")]},
        r"unknown role 'gpt'.*Did you mean 'assistant'\?",
    ),
    "content that is a list": (
        {**P, "chosen": [{"role": "user", "content": [1]}], "rejected": [bot("b")]},
        r"chosen\[0\]: 'content' is \[1\] \(list\), want a string",
    ),
    "tool calls": ({**P, "chosen": [{**bot(""), "tool_calls": [1]}], "rejected": [bot("b")]}, "tool_calls"),
    "half a surrogate": ({**P, "chosen": "a\ud83d"}, r"'chosen' is not Unicode text.*at character 1"),
    "a null margin": ({**P, "margin": None}, r"'margin' is null, want a number on every row"),
    "a NaN margin": ({**P, "margin": float("nan")}, r"'margin' is NaN, want a finite number"),
    "an infinite margin": ({**P, "margin": float("-inf")}, r"'margin' is infinite"),
    "a margin beyond floats": ({**P, "margin": 10**400}, r"'margin' is infinite"),
    "a margin in quotes": ({**P, "margin": "1"}, r"'margin' is '1' \(str\), want a number"),
    "a margin of true": ({**P, "margin": True}, r"'margin' is True \(bool\), want a number"),
    "a negative weight": ({**P, "weight": -0.5}, r"'weight' is negative, got -0.5, want 0 or more"),
    "a flip rate of a half": (
        {**P, "flip_rate": 0.5},
        r"'flip_rate' is out of range, got 0.5, want 0 <= flip_rate",
    ),
    "a flip rate below nought": ({**P, "flip_rate": -0.1}, r"'flip_rate' is out of range"),
    "a source that is a number": ({**P, "source": 3}, r"'source' is 3 \(int\), want a string"),
    "scores on one side": ({**P, "chosen_scores": [1.0]}, r"scores for chosen but none for rejected"),
    "scores of unlike length": (
        {**P, "chosen_scores": [1.0], "rejected_scores": [1.0, 2.0]},
        r"got 1 and 2 scores",
    ),
    "one response": (
        {"prompt": "p", "responses": ["a"], "ranks": [1]},
        r"'responses' is 1 of them, want .* 2",
    ),
    "a rank too few": ({**K, "ranks": [1]}, r"'ranks' has 1 values for 2 responses"),
    "a null rank": ({**K, "ranks": [1, None]}, r"'ranks\[1\]' is null"),
    "a NaN rating": ({**K, "ratings": [1, float("nan")]}, r"'ratings\[1\]' is NaN"),
    "ranks that are no list": ({**K, "ranks": "1,2"}, r"'ranks' is '1,2', want a list of numbers"),
    "no chosen ones": ({"prompt": "p", "chosen": [], "rejected": ["b"]}, r"'chosen' is 0 of them, want"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_refused_by_name(name):
    row, message = BAD[name]
    with pytest.raises(DataError, match=message):
        row_pairs(row, 0, "here")


def test_numbers_may_be_numpy_s():
    assert only({**P, "margin": np.float32(0.5), "weight": np.int64(2)}).columns == {
        "margin": 0.5,
        "weight": 2.0,
    }


def test_a_kept_column_that_is_not_there_is_refused_with_the_near_one():
    with pytest.raises(DataError, match=r"no column 'grades'.*Did you mean 'grade'\?"):
        row_pairs({**P, "grade": 1}, 0, "here", keep=("grades",))
