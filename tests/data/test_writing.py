import errno
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from datetime import date

import numpy as np
import pytest

from outweigh.data.files import raw_rows
from outweigh.data.pairs import PairSet, read_pairs
from outweigh.data.writing import (
    PEER_ROWS,
    for_ms_swift,
    for_openrlhf,
    for_trl,
    replaced_whole,
    row_of_pair,
    swap_row,
    write_rows,
)
from outweigh.errors import ConfigError, DataError, what_to_do

LABELLED = {"margin": 1, "flip_rate": 0.1, "weight": 1.0, "row": 0, "action": "keep"}


def messages(*contents):
    return [{"role": role, "content": content} for role, content in contents]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_written_are_read_back(name, tmp_path):
    rows = [
        {"chosen": "ä\n", "rejected": "b", "margin": np.float32(0.5)},
        {"chosen": "c", "rejected": "d", "margin": 1.0},
    ]
    assert write_rows(tmp_path / "new" / name, iter(rows)) == 2
    pairs = read_pairs(tmp_path / "new" / name)
    assert [pair.columns["margin"] for pair in pairs] == [0.5, 1.0]
    assert pairs[0].chosen[0].content == "ä\n"


def test_the_same_rows_are_the_same_bytes(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_rows(tmp_path / name, [{"a": 1}])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_what_json_has_no_word_for_is_refused_or_written_as_text(tmp_path):
    write_rows(tmp_path / "a.jsonl", [{"day": date(2024, 4, 2), "half": "\ud83d"}])
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"day": "2024-04-02", "half": "\ud83d"}
    with pytest.raises(DataError, match=r"b.jsonl:2: can't be written as JSON, got .*want finite numbers"):
        write_rows(tmp_path / "b.jsonl", [{"a": 1.0}, {"a": float("nan")}])
    with pytest.raises(ConfigError, match=r"rows.csv: rows are written as JSON lines, want a name ending in"):
        write_rows(tmp_path / "rows.csv", [])


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.jsonl"
    write_rows(path, [{"a": 1}])
    message = r"a.jsonl: can't be written, got No space left on device. Free some space"
    with pytest.raises(DataError, match=message), replaced_whole(path) as out:
        out.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == '{"a": 1}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_no_half_file(tmp_path):
    code = (
        "import sys\nfrom outweigh.data.writing import write_rows\nfrom outweigh.errors import DataError\n"
        "try:\n    write_rows(sys.argv[1], ({'a': 'x' * 1000} for _ in range(1000)))\n"
        "except DataError as error:\n    print(error)"
    )

    def limit():  # a file may grow to 100 kB only; beyond, writing fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-c", code, str(tmp_path / "a.jsonl")]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=True)
    assert "a.jsonl: can't be written, got File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "Free some space"), (errno.EACCES, "right"), (errno.ENOENT, "Name")]
)
def test_what_is_to_be_done_is_of_what_happened(number, advice):
    assert advice in what_to_do(OSError(number, "said"))


def test_a_swap_exchanges_every_column_of_the_two_responses():
    row = {
        "prompt": "p",
        "chosen": "a",
        "rejected": "b",
        "votes_chosen": 3,
        "votes_rejected": 1,
        "votes_equal": 1,
        "chosen score list": [1],
        "rejected score list": [2],
        "mean preference difference": -0.5,
        "std preference difference": 0.1,
        "GPT4 label": 1,
        "chosen_scores": [5],
        "rejected_scores": [6],
        "chosen_by": "x",
        "rejected_by": "y",
        "margin": 2.0,
    }
    swapped = swap_row(row)
    assert swapped == {
        "prompt": "p",
        "chosen": "b",
        "rejected": "a",
        "votes_chosen": 1,
        "votes_rejected": 3,
        "votes_equal": 1,
        "chosen score list": [2],
        "rejected score list": [1],
        "mean preference difference": 0.5,
        "std preference difference": 0.1,
        "GPT4 label": 0,
        "chosen_scores": [6],
        "rejected_scores": [5],
        "chosen_by": "y",
        "rejected_by": "x",
        "margin": 2.0,
    }
    assert list(swapped) == list(row)
    assert swap_row(swapped) == row


def test_a_label_that_gpt_4_never_gave_stays_ungiven():
    assert swap_row({"chosen": "a", "rejected": "b", "GPT4 label": -1})["GPT4 label"] == -1


def test_a_column_of_one_response_only_can_not_be_swapped():
    with pytest.raises(
        DataError, match="column 'votes_chosen': can't be swapped, want 'votes_rejected' beside it"
    ):
        swap_row({"chosen": "a", "rejected": "b", "votes_chosen": 1})


def test_the_row_of_a_pair_is_the_row_itself_or_one_pair_of_its_responses(tmp_path):
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "topic": "t"}
    ranked = {"prompt": "q", "responses": ["a", "b"], "ratings": [1, 2], "topic": "t"}
    crossed = {"prompt": "r", "chosen": ["a"], "rejected": ["b", "c"], "topic": "t"}
    assert row_of_pair(row, PairSet.from_rows([row])[0]) == row
    assert row_of_pair(ranked, PairSet.from_rows([ranked])[0]) == {
        "prompt": "q",
        "topic": "t",
        "chosen": "b",
        "rejected": "a",
        "rating_chosen": 2.0,
        "rating_rejected": 1.0,
        "chosen_index": 1.0,
        "rejected_index": 0.0,
        "row_pairs": 1.0,
    }
    second = row_of_pair(crossed, PairSet.from_rows([crossed])[1])
    assert (second["chosen"], second["rejected"], second["row_pairs"]) == ("a", "c", 2.0)
    again = PairSet.from_rows([second])[0]  # what is written can be read, and written once more
    assert again.columns["row_pairs"] == 2.0 and row_of_pair(second, again) == second


def test_every_pair_of_a_file_can_be_written_from_its_raw_row(tmp_path):
    write_rows(
        tmp_path / "a.jsonl",
        [{"prompt": f"p{n}", "responses": ["a", "b", "c"], "ranks": [1, 2, n]} for n in (2, 3)],
    )
    raw = {each.row: each.values for each in raw_rows(tmp_path / "a.jsonl")}
    pairs = read_pairs(tmp_path / "a.jsonl")
    write_rows(tmp_path / "b.jsonl", (row_of_pair(raw[pair.row], pair) for pair in pairs))
    again = read_pairs(tmp_path / "b.jsonl")
    assert [(p.prompt, p.chosen, p.rejected) for p in again] == [
        (p.prompt, p.chosen, p.rejected) for p in pairs
    ]
    assert len(pairs) == 2 + 3  # the first row has a tie


def test_strings_stay_strings_for_trl_and_the_margin_is_a_float():
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "topic": "t", **LABELLED}
    assert for_trl(row) == for_openrlhf(row) == {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 1.0}
    assert type(for_trl(row)["margin"]) is float
    assert for_trl({"chosen": "a", "rejected": "b"}) == {"chosen": "a", "rejected": "b", "margin": 0.0}


def test_rows_that_trl_can_not_read_become_message_lists():
    expected = {
        "prompt": messages(("user", "p")),
        "chosen": messages(("assistant", "a")),
        "rejected": messages(("assistant", "b")),
        "margin": 1.0,
    }
    whole = {
        "chosen": messages(("user", "p"), ("assistant", "a")),
        "rejected": messages(("user", "p"), ("assistant", "b")),
    }
    transcript = {"chosen": "\n\nHuman: p\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: b"}
    mixed = {"prompt": "p", **whole}
    named = {"question": "p", "chosen": "a", "rejected": "b"}
    for row in (whole, transcript, mixed, named):
        assert for_trl({**row, **LABELLED}) == expected


def test_ms_swift_gets_two_whole_conversations():
    row = {"prompt": "p", "chosen": "a", "rejected": "b", **LABELLED}
    assert for_ms_swift(row) == {
        "messages": messages(("user", "p"), ("assistant", "a")),
        "rejected_messages": messages(("user", "p"), ("assistant", "b")),
        "margin": 1.0,
    }


def test_every_peer_refuses_a_row_that_is_no_pair():
    for rows_for in PEER_ROWS.values():
        with pytest.raises(DataError, match="no column 'rejected'"):
            rows_for({"chosen": "a", "margin": 1.0})


def test_gzipped_output_is_gzip(tmp_path):
    with replaced_whole(tmp_path / "a.gz") as out:
        out.write(b"text")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"text"
