"""Rewards into files: what a kill leaves, what is skipped, what is refused."""

import gzip
import json
import subprocess
import sys

import pytest

import outweigh
from outweigh import progress
from outweigh.data.writing import json_line
from outweigh.errors import ConfigError, DataError, OutweighError, ServerError
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.reward import RewardModel
from outweigh.models.served import TEXTS
from outweigh.steps import score as step
from outweigh.steps.unfinished import places, unfinished_rows


@pytest.fixture
def model(tiny_llama, tmp_path):
    """A reward model of an untrained head, in a folder."""
    tokenizer = load_tokenizer(tiny_llama)
    RewardModel(load_classifier(tiny_llama, tokenizer), tokenizer).save(tmp_path / "model")
    return tmp_path / "model"


def pairs(count):
    return [
        {"prompt": f"Prime {n}?", "chosen": f"It is {n}.", "rejected": "No " * (n % 7)} for n in range(count)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_killed_scoring_goes_on_and_ends_in_the_same_file(model, goes_on_after_a_kill, tmp_path):
    data = write(tmp_path / "pairs.jsonl", pairs(3 * step.CHUNK)[1:])
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    program = [sys.executable, "-m", "outweigh", "score", str(model), str(data)]
    assert outweigh.score(model, data, out=whole)["rows"] == 3 * step.CHUNK - 1
    goes_on_after_a_kill(program, killed, whole)
    assert outweigh.score(model, data, out=killed, resume=True)["already_there"]


def test_an_interrupted_scoring_goes_on_only_with_the_same_data_and_model(model, tmp_path, monkeypatch):
    data, out = write(tmp_path / "pairs.jsonl", pairs(10)), tmp_path / "scored.jsonl"
    monkeypatch.setattr(step, "CHUNK", 4)
    broken = RewardModel.load(model)
    calls = iter([None, KeyboardInterrupt])

    def interrupted(texts, own=broken.score_each):
        if error := next(calls):
            raise error
        return own(texts)

    monkeypatch.setattr(broken, "score_each", interrupted)
    monkeypatch.setattr(step, "load_scorer", lambda name, server: broken)
    with pytest.raises(KeyboardInterrupt):
        outweigh.score(model, data, out=out)
    monkeypatch.undo()
    monkeypatch.setattr(step, "CHUNK", 4)
    other = write(tmp_path / "other.jsonl", pairs(11))
    with pytest.raises(ConfigError, match="is of other data, another model or other settings"):
        outweigh.score(model, other, out=out, resume=True)
    with pytest.raises(ConfigError, match="which can't be told from another"):
        outweigh.score(broken, data, out=out, resume=True)
    found = outweigh.score(model, data, out=out, resume=True)
    assert (found["rows"], found["resumed_at"]) == (10, 4)
    outweigh.score(model, data, out=tmp_path / "whole.jsonl")
    assert read(out) == read(tmp_path / "whole.jsonl")
    with pytest.raises(ConfigError, match="is finished, and"):
        outweigh.score(model, other, out=out, resume=True)


def test_a_kill_at_any_byte_of_the_record_leaves_whole_entries(tmp_path):
    path, rows = tmp_path / "o.jsonl", [{"n": n} for n in range(6)]
    written = [json_line(row) for row in rows]
    with pytest.raises(OutweighError), unfinished_rows(path, "run", resume=False) as kept:
        for place in range(0, 6, 2):
            kept.add(written[place : place + 2], 3, [f"bad {place}"])
        raise OutweighError("a kill")
    unfinished, record = tmp_path / "o.jsonl.unfinished", tmp_path / "o.jsonl.identity"
    lines, told = unfinished.read_bytes(), record.read_bytes()
    for end in range(len(told) + 1):
        unfinished.write_bytes(lines)
        record.write_bytes(told[:end])
        entries = max(told[:end].count(b"\n") - 1, 0)
        if end < len(b"run\n"):  # the identity itself is written before any row
            with pytest.raises(ConfigError, match="of other data"), unfinished_rows(path, "run", resume=True):
                pass
            continue
        with pytest.raises(OutweighError), unfinished_rows(path, "run", resume=True) as kept:
            assert (kept.read, kept.written, len(kept.bad)) == (3 * entries, 2 * entries, entries)
            kept.add([b'{"n": "new"}\n'], 1)
            raise OutweighError("a kill")
        assert read(unfinished) == [*rows[: 2 * entries], {"n": "new"}]
    identity, first, _, third = told.splitlines(keepends=True)
    for damaged in (b'{"read": 6}\n', b"\0\0\0}\n", b"\xff}\n", b"[]\n"):
        unfinished.write_bytes(lines)
        record.write_bytes(identity + first + damaged + third)
        with pytest.raises(OutweighError), unfinished_rows(path, "run", resume=True) as kept:
            assert (kept.read, kept.written) == (3, 2)
            raise OutweighError("a kill")
    packed = tmp_path / "o.jsonl.gz"
    with unfinished_rows(packed, "run", resume=False) as kept:
        kept.add(written, 6)
    with gzip.open(packed, "rt") as found:
        assert [json.loads(line) for line in found] == rows
    assert not places(packed)[0].exists() and places(packed)[1].read_text() == "run\n"


def test_a_full_disk_is_told_and_what_was_finished_stands(tmp_path):
    path = tmp_path / "o.jsonl"
    program = (
        "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from pathlib import Path; from outweigh.errors import DataError;"
        "from outweigh.steps.unfinished import unfinished_rows\n"
        "try:\n"
        f"    with unfinished_rows(Path({str(path)!r}), 'run', resume=False) as kept:\n"
        "        kept.add([b'1\\n'] * 900, 900)\n"
        "        kept.add([b'1\\n'] * 9000, 9000)\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "can't be written, got File too large. What was finished is kept" in done.stdout
    with pytest.raises(OutweighError), unfinished_rows(path, "run", resume=True) as kept:
        assert (kept.read, kept.written) == (900, 900)
        raise OutweighError("a kill")


def test_bad_rows_end_it_or_are_left_out_and_told(model, tmp_path, capsys):
    rows = [*pairs(2), {"prompt": "x", "chosen": None, "rejected": "y"}, *pairs(1), {"nothing": 1}]
    rows.append(pairs(1)[0] | {"unwritable": float("nan")})
    data, out = write(tmp_path / "pairs.jsonl", rows), tmp_path / "scored.jsonl"
    with pytest.raises(DataError, match=r"pairs\.jsonl:3"):
        outweigh.score(model, data, out=out)
    assert not out.exists()
    assert not list(tmp_path.glob("scored.jsonl.*"))  # nothing to go on from
    from outweigh.cli.main import main

    code = main(["score", str(model), str(data), "--out", str(out), "--on-bad-rows", "skip"])
    said = capsys.readouterr().out
    assert code == 0 and "3 rows with rewards" in said.replace("\n", " ")
    assert "3 bad rows are left out, the first:" in said.replace("\n", " ")
    assert [row["prompt"] for row in read(out)] == ["Prime 0?", "Prime 1?", "Prime 0?"]
    with pytest.raises(DataError, match=r"none of 1 rows can be scored\. The first: row 1"):
        outweigh.score(model, [{"nothing": 1}], out=tmp_path / "no.jsonl", on_bad_rows="skip")
    assert not list(tmp_path.glob("no.jsonl*"))


def test_where_nobody_watches_a_line_tells_now_and_then_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.progress("rows", 300, done=100) as advance:
        advance(50, "fast")
        advance(150)
    with progress.progress("rows", None) as advance:
        advance(2048)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["rows: 150 of 300, about 0 min left, fast", "rows: 2,048"]


def measured(body):
    """Rewards by length; too long a text is refused, with all that it was sent with."""
    if any(len(text) > 100 for text in body["query"]):
        return (413, b"too long")
    return {"rewards": [float(len(text)) for text in body["query"]]}


def test_of_a_served_model_a_text_that_it_refuses_is_a_bad_row(server, tmp_path):
    server.answer = measured
    rows = pairs(80)
    for place in (3, 40, 79):
        rows[place]["rejected"] = "much " * 30
    data = write(tmp_path / "pairs.jsonl", rows)
    url = server.url.replace("/v1", "/get_reward")
    found = outweigh.score(url, data, out=tmp_path / "scored.jsonl", on_bad_rows="skip")
    assert found["rows"] == 77
    assert [said.partition(": ")[0] for said in found["bad_rows"]] == [f"{data}:{n}" for n in (4, 41, 80)]
    assert [row["prompt"] for row in read(tmp_path / "scored.jsonl")] == [
        row["prompt"] for place, row in enumerate(rows) if place not in (3, 40, 79)
    ]
    sent = sum(len(body["query"]) for _, _, body in server.asked)
    assert sent <= 2 * 80 + 3 * TEXTS  # those that stood beside a refused one were sent twice, and no more
    with pytest.raises(DataError, match=r"pairs.jsonl:4: .*413.* Is the text too long for it\? Drop the row"):
        outweigh.score(url, data, out=tmp_path / "whole.jsonl")


def test_in_an_ensemble_the_row_that_one_server_refuses_is_left_out(server, model, tmp_path):
    server.answer = measured
    rows = pairs(20)
    rows[5]["chosen"] = "much " * 30
    url = server.url.replace("/v1", "/get_reward")
    out = tmp_path / "scored.jsonl"
    found = outweigh.score(f"mean:{model},{url}", rows, out=out, on_bad_rows="skip")
    assert found["rows"] == 19 and found["bad_rows"][0].startswith("row 6: ")
    alone = RewardModel.load(model).score([rows[7]["prompt"]], [rows[7]["chosen"]])[0]
    served = len(f"User: {rows[7]['prompt']}\n\nAssistant: {rows[7]['chosen']}")
    assert read(out)[6]["reward_chosen"] == pytest.approx((alone + served) / 2)


def test_a_server_that_takes_no_text_at_all_is_no_data_that_is_bad(server, tmp_path):
    server.answer = lambda body: (422, b"want other fields")
    url = server.url.replace("/v1", "/get_reward")
    with pytest.raises(ServerError, match=r"answers 422.* It took none of the first 32 texts"):
        outweigh.score(url, pairs(2000), out=tmp_path / "scored.jsonl", on_bad_rows="skip")
    assert len(server.asked) < 500 and not list(tmp_path.iterdir())  # what was under way; else 4,250


def test_a_file_that_is_there_is_not_written_over(model, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("somebody's\n")
    with pytest.raises(ConfigError, match=r"out\.jsonl: is there already\. Name another file"):
        outweigh.score(model, pairs(2), out=out)
    assert out.read_text() == "somebody's\n"


def test_lists_get_lists_of_one_response_each_too(model, tmp_path):
    rows = [{"prompt": "Q", "chosen": ["a"], "rejected": ["b"]}]
    rows += [{"prompt": "Q", "chosen": "a", "rejected": "b"}]
    outweigh.score(model, rows, out=tmp_path / "scored.jsonl")
    lists, pair = read(tmp_path / "scored.jsonl")
    assert lists["rewards_chosen"] == [pytest.approx(pair["reward_chosen"], abs=1e-2)]
    assert "gap" in pair and "gap" not in lists
