import csv
import gzip
import json
import os
import pickle
import subprocess
import sys

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from outweigh.data.files import hub_rows, raw_rows
from outweigh.data.pairs import PairSet, read_candidates, read_pairs, read_rankings
from outweigh.errors import ConfigError, DataError

ROWS = [
    {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 0.5, "source": "x"},
    {"prompt": "p", "chosen": "b", "rejected": "c", "margin": 1.5, "source": "y"},
    {"prompt": "q", "chosen": "ä", "rejected": "a", "margin": -2.0, "source": "x"},
]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write(path, rows):
    """The rows in the kind of file that the name says."""
    name, packed = path.name.removesuffix(".gz"), path.name.endswith(".gz")
    plain = path.with_name(name)
    if name.endswith(".jsonl"):
        lines(plain, rows)
    elif name.endswith(".json"):
        plain.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif name.endswith(".csv"):
        with plain.open("w", encoding="utf-8", newline="") as out:
            table = csv.DictWriter(out, fieldnames=list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), plain)
    if packed:
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


KINDS = [f"data.{kind}{packed}" for kind in ("jsonl", "json", "csv", "parquet") for packed in ("", ".gz")]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_pairs(name, tmp_path):
    pairs = read_pairs(write(tmp_path / name, ROWS))
    expected = PairSet.from_rows(ROWS)
    assert [(p.prompt, p.chosen, p.rejected, p.row, dict(p.columns)) for p in pairs] == [
        (p.prompt, p.chosen, p.rejected, p.row, dict(p.columns)) for p in expected
    ]
    assert pairs.columns == ("margin", "source")
    np.testing.assert_array_equal(pairs.column("margin"), [0.5, 1.5, -2.0])
    assert pairs.column("source").tolist() == ["x", "y", "x"]
    assert pairs.column("weight") is None


@pytest.mark.parametrize(
    ("name", "origin"),
    [("data.jsonl", "3"), ("data.json", "row 3"), ("data.csv", "4"), ("data.parquet", "row 3")],
)
def test_each_kind_of_file_names_the_bad_row_in_its_own_way(name, origin, tmp_path):
    path = write(tmp_path / name, [*ROWS[:2], {**ROWS[2], "margin": None}])
    with pytest.raises(DataError, match=rf"^{path}:{origin}: 'margin' is null, want a number"):
        read_pairs(path)


def test_json_lines_may_be_called_json_and_hold_empty_lines(tmp_path):
    path = tmp_path / "data.json"
    path.write_text("\n".join(json.dumps(row) for row in ROWS).replace("\n", "\n\n"), encoding="utf-8")
    assert [pair.origin for pair in read_pairs(path)] == [f"{path}:1", f"{path}:3", f"{path}:5"]


def test_a_line_of_csv_is_the_one_on_which_its_row_begins(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('chosen,rejected\n"a\nb\nc",d\ne,f,g\n', encoding="utf-8")
    with pytest.raises(DataError, match=f"^{path}:5: got 3 cells, want 2 as in the first line"):
        read_pairs(path)


def test_responses_and_ranks_in_csv_are_json(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('prompt,responses,ranks\np,"[""a"", ""b""]","[2, 1]"\n', encoding="utf-8")
    (pair,) = read_pairs(path)
    assert pair.chosen == (("assistant", "b"),)


def test_a_json_array_longer_than_a_chunk_is_read_row_by_row(tmp_path):
    long = [{"chosen": "x" * 700_000 + str(number), "rejected": "ä" * 400_000} for number in range(4)]
    pairs = read_pairs(write(tmp_path / "data.json", long))
    assert [len(pair.chosen[0].content) for pair in pairs] == [700_001] * 4


def test_a_text_of_a_million_characters_is_read_from_every_kind_of_file(tmp_path):
    rows = [{"chosen": "long " * 200_000, "rejected": "b"}]
    for name in KINDS:
        assert read_pairs(write(tmp_path / name, rows)).characters()[0].tolist() == [1_000_000], name


def test_a_folder_is_its_files_in_order_and_nothing_else(tmp_path):
    lines(tmp_path / "b.jsonl", ROWS[1:])
    lines(tmp_path / "a.jsonl", ROWS[:1])
    (tmp_path / "README.md").write_text("no data")
    pairs = read_pairs(tmp_path)
    assert [(pair.row, pair.origin) for pair in pairs] == [
        (0, f"{tmp_path}/a.jsonl:1"),
        (1, f"{tmp_path}/b.jsonl:1"),
        (2, f"{tmp_path}/b.jsonl:2"),
    ]


BROKEN = {
    "empty.jsonl": (b"", r"empty.jsonl: holds no rows"),
    "blank.jsonl": (b"\n \n", r"holds no rows"),
    "none.json": (b"[]", r"holds no rows"),
    "header.csv": (b"chosen,rejected\n", r"holds no rows"),
    "syntax.jsonl": (
        b'{"chosen": "a", "rejected": "b"}\n{"chosen": "a" "b"}\n',
        r"syntax.jsonl:2: invalid JSON: .*at character 16, want",
    ),
    "pretty.json": (b'{\n"chosen": "a"\n}', r"pretty.json:1: invalid JSON.*Write one JSON object a line"),
    "list.jsonl": (b'{"chosen": "a", "rejected": "b"}\n3\n', r"list.jsonl:2: got 3, want a JSON object"),
    "bytes.jsonl": (
        b'{"chosen": "a\xff", "rejected": "b"}\n',
        r"bytes.jsonl:1: not UTF-8: got byte 0xff at byte 14",
    ),
    "bytes.csv": (b"chosen,rejected\na,\xfc\n", r"bytes.csv:2: not UTF-8: got byte 0xfc at byte 3"),
    "bytes.json": (b'[{"chosen": "\xff"}]', r"bytes.json: not UTF-8: got byte 0xff at byte 14"),
    "cut.json": (b'[{"chosen": "a", "rejected": "b"}', r"cut.json:row 1: the file ends, want , or \]"),
    "torn.json": (
        b'[{"chosen": "a", "rej',
        r"torn.json:row 1: invalid JSON: Unterminated string starting at line 1, character 18, want",
    ),
    "long.json": (  # the place is that of the file, whatever part of it is held
        b"[" + b'{"chosen": "a", "rejected": "b"},\n' * 70_000 + b'{"chosen": oops}]',
        r"long.json:row 70001: invalid JSON: Expecting value at line 70001, character 12, want",
    ),
    "comma.json": (b'[{"chosen": "a", "rejected": "b"} {}]', r"comma.json:row 1: got '\{', want , or \]"),
    "two.json": (b'[{"chosen": "a", "rejected": "b"}]\n[{}]', r"two.json:row 1: got '\[' after the array"),
    "quote.csv": (b'chosen,rejected\na,"b\n', r"quote.csv:2: invalid CSV"),
    "twice.csv": (b"chosen,chosen\na,b\n", r"twice.csv:1: column 'chosen' stands twice"),
    "not.parquet": (b"hello", r"not.parquet: can't be read as Parquet"),
    "not.jsonl.gz": (b"hello", r"not.jsonl.gz: gzip data is damaged"),
    "cut.jsonl.gz": (gzip.compress(b'{"chosen": "a", "rejected": "b"}\n' * 99)[:-9], r"gzip data is damaged"),
    "deep.jsonl": (b'{"chosen":' + b"[" * 100_000, r"deep.jsonl:1: invalid JSON"),
    "data.txt": (b"a", r"data.txt: can't tell its kind, want a name ending in .jsonl"),
    "requests.jsonl": (
        b'{"chosen": "\\n\\nHuman: p\\n\\nAssistant: a", "rejected": "\\n\\nHuman: q\\n\\nAssistant: a"}\n',
        r"requests.jsonl:1: 'chosen' and 'rejected' begin unlike each other, got 'p' and 'q', want",
    ),
    "answers.jsonl": (
        b'{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}], '
        b'"rejected": [{"role": "user", "content": "p"}]}\n',
        r"answers.jsonl:1: 'chosen' and 'rejected' are not both answered, got 'p' and 'p'",
    ),
    "systems.json": (
        json.dumps(
            [
                {
                    name: [{"role": "system", "content": name}, {"role": "user", "content": "p"}]
                    for name in ("chosen", "rejected")
                }
            ]
        ).encode(),
        r"systems.json:row 1: 'chosen' and 'rejected' begin unlike each other, got 'chosen' and 'reje",
    ),
    "twins.jsonl": (
        b'{"chosen": "a", "rejected": "a"}\n',
        r"no pair is left of 1 rows.* and 1 with identical",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_name_and_place(name, tmp_path):
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    for name, content in {
        "a.csv": "chosen,rejected\na,b\n",
        "a.jsonl": '{"chosen": "a", "rejected": "b"}\n',
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
        assert len(read_pairs(tmp_path / name)) == 1


def test_a_file_that_is_not_there_is_refused_with_the_near_one(tmp_path):
    lines(tmp_path / "train.jsonl", ROWS)
    named = f"{tmp_path}/train.jsonl[test]"
    for name, said in ((named, "is of Hub data sets. Name the file"), ("", "empty")):
        with pytest.raises(DataError, match=said):
            read_pairs(name)
    with pytest.raises(DataError, match=r"trian.jsonl: no such file. Did you mean 'train.jsonl'\?"):
        read_pairs(tmp_path / "trian.jsonl")


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="no data in this folder, want files ending in"):
        read_pairs(tmp_path)


def test_a_column_that_only_some_rows_have_is_refused_at_the_first_that_differs(tmp_path):
    plain = {"chosen": "a", "rejected": "b"}
    path = lines(tmp_path / "lost.jsonl", [{**plain, "margin": 1.0}, {**plain, "margin": 1.0}, plain])
    with pytest.raises(DataError, match=f"^{path}:3: no 'margin', but {path}:1 has it, want it on every row"):
        read_pairs(path)
    path = lines(tmp_path / "new.jsonl", [plain, {**plain, "margin": 1.0}])
    with pytest.raises(DataError, match=f"^{path}:2: 'margin' is here, but {path}:1 lacks it"):
        read_pairs(path)


def test_a_kept_column_that_changes_its_type_is_refused(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{**ROWS[0], "grade": 1}, {**ROWS[1], "grade": "high"}])
    with pytest.raises(DataError, match=f"^{path}:2: 'grade' is of type str, want float as on {path}:1"):
        read_pairs(path, keep=("grade",))


def test_bad_rows_are_skipped_counted_and_listed_when_asked(tmp_path):
    path = tmp_path / "a.jsonl"
    bad = {"chosen": None, "rejected": "b"}
    good = {"chosen": "a", "rejected": "b"}
    path.write_text("\n".join([json.dumps(bad), json.dumps(good), "{", json.dumps(good)]), encoding="utf-8")
    for _ in range(2):  # parsed, and out of the cache
        pairs = read_pairs(path, on_bad_rows="skip")
        assert pairs.counts.to_dict() == dict(rows=4, pairs=2, tied=0, empty=0, identical=0, bad_rows=2)
        assert [pair.row for pair in pairs] == pairs.rows.tolist() == [1, 3]
        assert [origin for origin, _ in pairs.bad_rows] == [f"{path}:1", f"{path}:3"]
        pairs.write_bad_rows(tmp_path / "bad_rows.jsonl")
        first, second = map(json.loads, (tmp_path / "bad_rows.jsonl").read_text().splitlines())
        assert first["raw"] == bad and first["error"].startswith("'chosen' is null")
        assert second.keys() == {"origin", "error"}  # it could not be parsed


def test_skipping_is_spelt_as_documented():
    with pytest.raises(ConfigError, match="on_bad_rows: got 'drop', want error or skip"):
        read_pairs(ROWS, on_bad_rows="drop")


def test_a_second_reading_comes_from_the_cache_and_a_changed_file_does_not(tmp_path):
    path = lines(tmp_path / "a.jsonl", ROWS)
    first = read_pairs(path, cache_dir=tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "pairs").iterdir()
    written = (folder / "pairs.arrow").stat().st_mtime_ns
    again = read_pairs(path, cache_dir=tmp_path / "cache")
    assert (folder / "pairs.arrow").stat().st_mtime_ns == written
    assert again.sha256 == first.sha256 and list(again) == list(first)
    lines(path, ROWS[:2])
    changed = read_pairs(path, cache_dir=tmp_path / "cache")
    assert len(changed) == 2 and changed.sha256 != first.sha256


def test_a_reading_that_fails_leaves_nothing_in_the_cache(tmp_path):
    path = lines(tmp_path / "a.jsonl", [*ROWS, {"chosen": 3}])
    with pytest.raises(DataError):
        read_pairs(path, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache" / "pairs").iterdir()) == []


def test_a_cache_that_can_not_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the cache can't be written, got Not a directory"):
        read_pairs(lines(tmp_path / "a.jsonl", ROWS), cache_dir=tmp_path / "file")


def test_a_selection_has_its_pairs_in_its_order_and_a_fingerprint_of_its_own(tmp_path):
    pairs = read_pairs(lines(tmp_path / "a.jsonl", ROWS))
    chosen = pairs.select([2, 0])
    assert [pair.row for pair in chosen] == [2, 0]
    assert chosen[0] == pairs[2] and chosen[-1] == pairs[0]
    np.testing.assert_array_equal(chosen.column("margin"), [-2.0, 0.5])
    assert chosen.select([1])[0] == pairs[0]
    assert chosen.fingerprint() != pairs.fingerprint() == pairs.select([0, 1, 2]).fingerprint()
    assert len(pairs.select([])) == 0
    with pytest.raises(IndexError):
        pairs[3]
    with pytest.raises(TypeError, match=r"Pass np.flatnonzero"):
        pairs.select(np.array([True, False, True]))


def test_a_pair_set_survives_being_sent_to_another_process(tmp_path):
    pairs = read_pairs(lines(tmp_path / "a.jsonl", ROWS)).select([2, 1])
    assert list(pickle.loads(pickle.dumps(pairs))) == list(pairs)


def test_equal_texts_have_equal_ids_and_responses_ignore_the_prompt():
    prompt, chosen, rejected = PairSet.from_rows(ROWS).text_ids()
    assert prompt[0] == prompt[1] != prompt[2]
    assert chosen[1] == rejected[0]  # b
    assert chosen[0] == rejected[2]  # a, under another prompt
    assert len({*chosen, *rejected}) == 4  # a, b, c, ä


def test_texts_that_only_join_alike_have_unlike_ids():
    split = [{"role": "assistant", "content": "ab"}, {"role": "assistant", "content": ""}]
    moved = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    _, chosen, rejected = PairSet.from_rows([{"prompt": "p", "chosen": split, "rejected": moved}]).text_ids()
    assert chosen[0] != rejected[0]


def test_rows_given_are_read_like_a_file_s():
    pairs = read_pairs(ROWS)
    assert [pair.origin for pair in pairs] == ["row 1", "row 2", "row 3"]
    assert pairs.sha256 == PairSet.from_rows(ROWS).sha256 != PairSet.from_rows(ROWS[:2]).sha256
    assert read_pairs(pairs) is pairs
    with pytest.raises(DataError, match=r"^row 2: got 'text', want a dict"):
        read_pairs([ROWS[0], "text"])
    with pytest.raises(DataError, match="data: holds no rows"):
        read_pairs([])


def test_a_data_set_of_the_hub_s_library_is_read_by_its_rows():
    assert len(read_pairs(datasets.Dataset.from_list(ROWS))) == 3


def test_hub_rows_are_named_by_data_set_split_and_row(tmp_path, monkeypatch):
    (tmp_path / "named").mkdir()
    lines(tmp_path / "named" / "validation.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)  # load_dataset takes a folder like a name, and needs no network for it
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = list(hub_rows("named[validation]"))
    assert [row.origin for row in rows] == [f"named[validation]:row {number}" for number in (1, 2, 3)]
    assert rows[2].values == ROWS[2]
    with pytest.raises(DataError, match=r"named: no such file .* split train \("):
        list(hub_rows("named"))


def test_a_name_that_is_neither_file_nor_on_the_hub_is_refused_with_both_said(tmp_path):
    code = (
        "from outweigh.data.pairs import read_pairs\nfrom outweigh.errors import DataError\n"
        "try:\n    read_pairs('nobody/no-such-data')\nexcept DataError as error:\n    print(error)"
    )
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True
    )
    assert "no such file or folder here, and it can't be loaded as a Hub data set" in done.stdout


def test_raw_rows_come_unchanged_with_their_number_and_place(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"chosen": "a", "rejected": "b", "x": [1]}\n{\n', encoding="utf-8")
    good, bad = raw_rows(path)
    assert good[:3] == (0, f"{path}:1", {"chosen": "a", "rejected": "b", "x": [1]})
    assert (bad.row, bad.values) == (1, None) and "invalid JSON" in bad.problem


def test_rankings_and_candidates_name_their_row(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]}])
    assert read_rankings(path).rankings[0].origin == f"{path}:1"
    assert next(iter(read_candidates(path))).responses[1] == (("assistant", "b"),)
    path = lines(tmp_path / "b.jsonl", [{"prompt": "p", "responses": "a"}])
    with pytest.raises(DataError, match=f"^{path}:1: 'responses' is 'a', want a list"):
        list(read_candidates(path))


def test_rankings_that_say_nothing_are_dropped_and_bad_ones_skipped_each_with_its_count(tmp_path):
    good = {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]}
    path = lines(tmp_path / "a.jsonl", [good, good | {"ranks": [1, 1]}, good | {"ranks": [1]}, good])
    with pytest.raises(DataError, match=f"^{path}:3: 'ranks' has 1 values for 2 responses"):
        read_rankings(path)
    found = read_rankings(path, on_bad_rows="skip")
    assert [ranking.row for ranking in found.rankings] == [0, 3]
    assert (found.reading.counts.rows, found.reading.counts.tied, found.reading.counts.bad_rows) == (4, 1, 1)
    assert json.loads(found.bad)["origin"] == f"{path}:3"
    with pytest.raises(DataError, match="no pair is left of 1 rows, got 0 bad rows, 1 ties"):
        read_rankings([good | {"ranks": [1, 1]}])


def test_pairs_are_read_block_by_block_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("outweigh.data.pairs._BLOCK_PAIRS", 3)
    rows = [{"chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(10)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for pairs in (read_pairs(path), PairSet.from_rows(rows)):
        assert [pair.chosen[0].content for pair in pairs] == [row["chosen"] for row in rows]
        assert [pair.row for pair in pairs.select([9, 0, 4, 4])] == [9, 0, 4, 4]
