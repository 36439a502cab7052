from outweigh.data.records import Message
from outweigh.data.rows import row_pairs
from outweigh.data.transcripts import is_transcript, prompt_turns, split_shared, turns


def test_a_transcript_is_its_turns_without_the_space_between_them():
    found = turns("\n\nHuman: Hi \n\nAssistant: Hello\n\nthere\n\nHuman: Why?\n\nAssistant:")
    assert found == (("user", "Hi"), ("assistant", "Hello\n\nthere"), ("user", "Why?"), ("assistant", ""))


def test_a_marker_within_a_line_is_text():
    assert turns("\n\nHuman: Say Human: and\nAssistant: now") == (("user", "Say Human: and\nAssistant: now"),)


def test_only_what_opens_with_a_human_turn_and_has_an_answer_is_a_transcript():
    assert is_transcript("\n\nHuman: a\n\nAssistant: b")
    assert not is_transcript("Human: a\n\nAssistant: b")
    assert not is_transcript("\n\nHuman: a")


def test_a_transcript_pair_is_its_shared_turns_and_two_responses():
    shared = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?"
    (pair,) = row_pairs(
        {"chosen": f"{shared}\n\nAssistant: So.", "rejected": f"{shared}\n\nAssistant: No."}, 0, "x"
    ).pairs
    assert pair.prompt == (("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"))
    assert (pair.chosen, pair.rejected) == ((("assistant", "So."),), (("assistant", "No."),))


def test_responses_of_several_turns_keep_them():
    a, b, c = Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")
    assert split_shared((a, b, a, c), (a, c)) == ((a,), (b, a, c), (c,))


def test_where_one_conversation_opens_the_other_both_keep_a_response():
    a, b = Message("user", "a"), Message("assistant", "b")
    assert split_shared((a, b), (a, b, a, b)) == ((a,), (b,), (b, a, b))
    assert split_shared((a, b), (a, b)) == ((a,), (b,), (b,))


def test_a_prompt_apart_may_be_a_transcript_with_an_open_answer():
    assert prompt_turns("\n\nHuman: Hi\n\nAssistant:") == (("user", "Hi"),)
    row = {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Hello", "rejected": " Go"}
    (pair,) = row_pairs(row, 0, "x").pairs
    assert pair.prompt == (("user", "Hi"),)
    assert pair.chosen == (("assistant", " Hello"),)
