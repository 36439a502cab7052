"""Prompts to responses in files: what is written, what a kill leaves, what is refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal

import pytest

import outweigh
from outweigh.errors import ConfigError, DataError, OutweighError, ServerError
from outweigh.generation.config import SamplingConfig
from outweigh.servers.config import ServerConfig
from outweigh.steps.unfinished import unfinished_rows

SHORT = SamplingConfig(n=2, max_new_tokens=6)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(count):
    return [{"prompt": f"Name prime number {number}.", "id": number} for number in range(count)]


def test_each_row_gets_its_responses_and_keeps_what_it_had(tiny_chat, tmp_path):
    out = tmp_path / "made.jsonl"
    found = outweigh.generate(asked(3), policy=tiny_chat, out=out, config=SHORT)
    rows = read(out)
    assert [row["id"] for row in rows] == [0, 1, 2] and rows[0]["prompt"] == "Name prime number 0."
    assert {len(row[name]) for row in rows for name in ("responses", "logprobs", "finished")} == {2}
    assert found["tokens"] == sum(sum(row["response_tokens"]) for row in rows)
    assert not out.with_name("made.jsonl.unfinished").exists()
    assert outweigh.score(next_model(tiny_chat, tmp_path), out, out=tmp_path / "scored.jsonl")["rows"] == 3


def next_model(backbone, tmp_path):
    """A reward model of an untrained head: the next verb reads what this one wrote."""
    from outweigh.models.loading import load_classifier, load_tokenizer
    from outweigh.models.reward import RewardModel

    tokenizer = load_tokenizer(backbone)
    model = RewardModel(load_classifier(backbone, tokenizer), tokenizer)
    model.save(tmp_path / "model")
    return tmp_path / "model"


def test_pairs_give_their_prompts_and_leave_their_labels(tiny_chat, tmp_path):
    pair = {"prompt": "Hi.", "chosen": "Yes", "rejected": "No", "margin": 1.0, "source": "here", "topic": 3}
    transcript = {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}
    outweigh.generate([pair, transcript], policy=tiny_chat, out=tmp_path / "o.jsonl", config=SHORT)
    first, second = read(tmp_path / "o.jsonl")
    made = {"responses", "logprobs", "response_tokens", "finished"}
    assert set(first) == {"prompt", "source", "topic"} | made
    assert second["prompt"] == [{"role": "user", "content": "Hi"}]


def test_a_killed_run_goes_on_and_ends_in_the_same_file(tiny_chat, goes_on_after_a_kill, tmp_path):
    data = write(tmp_path / "prompts.jsonl", asked(60))
    how = ["--policy", str(tiny_chat), "--n", "16", "--max-new-tokens", "40"]
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    program = [sys.executable, "-m", "outweigh", "generate", str(data), *how]
    subprocess.run([*program, "--out", str(whole)], check=True, capture_output=True)
    goes_on_after_a_kill(program, killed, whole)


def test_what_is_unfinished_goes_on_only_with_the_same_prompts_and_settings(server, tmp_path):
    out = tmp_path / "o.jsonl"
    server.script = [None, None, (401, b"no more")]
    told = ServerConfig(concurrency=1)
    with pytest.raises(ServerError, match="no more"):
        outweigh.generate(asked(5), policy=server.url, out=out, config=SHORT, server=told)
    other = SamplingConfig(n=2, max_new_tokens=6, seed=1)
    for changed in ({"data": asked(4)}, {"config": other}):
        options = {"data": asked(5), "config": SHORT} | changed
        with pytest.raises(ConfigError, match="other data, another model or other settings"):
            outweigh.generate(**options, policy=server.url, out=out, server=told, resume=True)
    server.asked.clear()
    found = outweigh.generate(asked(5), policy=server.url, out=out, config=SHORT, server=told, resume=True)
    assert found["resumed_at"] == 2 and len(server.asked) == 3
    assert [row["responses"][0] for row in read(out)] == [
        f"answer to Name prime number {number}." for number in range(5)
    ]


def test_an_interrupt_does_not_wait_for_what_a_server_has_not_answered(server, tmp_path):
    server.delay = 300.0
    data = write(tmp_path / "prompts.jsonl", asked(8))
    told = ["generate", str(data), "--policy", server.url, "--out", str(tmp_path / "o.jsonl")]
    program = (  # the signal is ignored where tests run in the background
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"from outweigh.cli.main import main; sys.exit(main({told!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while time.monotonic() < until and not server.most_under_way:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in said


def test_two_runs_do_not_write_one_file(server, tmp_path):
    out = tmp_path / "made.jsonl"
    with unfinished_rows(out, "identity", resume=False):
        with pytest.raises(ConfigError, match="another run is writing there"):
            outweigh.generate(asked(2), policy=server.url, out=out, config=SHORT, resume=True)
        assert not out.exists()


def test_neither_the_data_nor_a_folder_is_written_over(server, tmp_path):
    data = write(tmp_path / "asked.jsonl", asked(1))
    with pytest.raises(ConfigError, match="is what is read"):
        outweigh.generate(data, policy=server.url, out=data)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        outweigh.generate(data, policy=server.url, out=tmp_path / "folder.jsonl")
    for verb in (
        lambda: outweigh.judge(data, by="gold", out=data),
        lambda: outweigh.score("minilm", data, out=data),
        lambda: outweigh.select("minilm", data, out=data),
        lambda: outweigh.evaluate(data, models=["minilm"], out=data),
        lambda: outweigh.denoise(data, audit=tmp_path, out=data),
    ):
        with pytest.raises(ConfigError, match="is what is read"):
            verb()
    assert not server.asked and read(data) == asked(1)


def test_other_weights_by_the_same_name_are_another_policy(tiny_chat, tmp_path):
    place, out = tmp_path / "policy", tmp_path / "made.jsonl"
    shutil.copytree(tiny_chat, place)
    outweigh.generate(asked(1), policy=place, out=out, config=SHORT)
    assert outweigh.generate(asked(1), policy=place, out=out, config=SHORT, resume=True)["already_there"]
    (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes() + b" ")
    with pytest.raises(OutweighError):
        outweigh.generate(asked(1), policy=place, out=out, config=SHORT, resume=True)


def test_the_password_of_a_url_is_in_no_file(server, tmp_path):
    server.script = [None, (401, b"no more")]
    url = server.url.replace("://", "://me:secret@")
    with pytest.raises(ServerError) as told:
        outweigh.generate(
            asked(3), policy=url, out=tmp_path / "o.jsonl", config=SHORT, server=ServerConfig(concurrency=1)
        )
    written = [(tmp_path / f"o.jsonl.{name}").read_text() for name in ("unfinished", "identity")]
    assert "secret" not in "".join(written) + str(told.value)


def test_another_model_of_the_server_is_another_policy(server, tmp_path):
    out = tmp_path / "o.jsonl"
    server.script = [None, (401, b"no more")]
    for model, resume, said in (("small", False, "no more"), ("large", True, "another model")):
        with pytest.raises(OutweighError, match=said):
            outweigh.generate(
                asked(5),
                policy=server.url,
                out=out,
                config=SHORT,
                server=ServerConfig(concurrency=1, model=model),
                resume=resume,
            )


def test_what_a_server_refuses_is_a_bad_row(server, tmp_path):
    told = {"policy": server.url, "server": ServerConfig(concurrency=1), "config": SHORT}
    server.script = [None, (400, b"too long"), None, None]
    found = outweigh.generate(asked(4), out=tmp_path / "o.jsonl", on_bad_rows="skip", **told)
    assert found["rows"] == 3 and "row 2: " in found["bad_rows"][0] and "too long" in found["bad_rows"][0]
    server.script = [None, (400, b"too long")]
    with pytest.raises(DataError, match=r"row 2: .*too long"):
        outweigh.generate(asked(4), out=tmp_path / "p.jsonl", **told)


def test_where_a_server_refuses_all_it_is_soon_asked_no_more_and_no_file_is_left(server, tmp_path):
    server.answer = lambda body: (400, b"logprobs are not given here")
    told = {"policy": server.url, "config": SHORT, "out": tmp_path / "o.jsonl", "on_bad_rows": "skip"}
    with pytest.raises(DataError, match=r"none of \d+ prompts was answered. The first: .*logprobs are not"):
        outweigh.generate(asked(200), **told)
    assert len(server.asked) < 100 and not list(tmp_path.iterdir())


def test_after_a_bad_row_nothing_more_is_asked(server, tmp_path):
    server.script = [(400, b"too long")]
    told = ServerConfig(concurrency=4, requests_per_minute=60.0)
    with pytest.raises(DataError, match="too long"):
        outweigh.generate(asked(8), policy=server.url, out=tmp_path / "o.jsonl", config=SHORT, server=told)
    time.sleep(1.5)
    assert len(server.asked) == 1


def test_a_finished_file_is_not_drawn_again(server, tmp_path):
    told = {"policy": server.url, "out": tmp_path / "o.jsonl", "config": SHORT}
    outweigh.generate(asked(2), **told)
    server.asked.clear()
    assert outweigh.generate(asked(2), resume=True, **told)["already_there"] and not server.asked


def test_a_finished_file_of_other_prompts_or_settings_or_of_no_known_ones_is_refused(server, tmp_path):
    told = {"data": asked(2), "policy": server.url, "out": tmp_path / "o.jsonl", "config": SHORT}
    outweigh.generate(**told)
    other = SamplingConfig(n=2, max_new_tokens=6, seed=1)
    for changed in ({"data": asked(3)}, {"config": other}, {"server": ServerConfig(model="large")}):
        with pytest.raises(ConfigError, match=r"o\.jsonl: is finished, and .* does not tell that it is of"):
            outweigh.generate(**told | changed, resume=True)
    (tmp_path / "o.jsonl.identity").unlink()
    with pytest.raises(ConfigError, match="is finished"):
        outweigh.generate(**told, resume=True)


def test_dates_and_what_select_wrote_do_not_stand_in_the_way(server, tmp_path):
    row = {
        "prompt": "Hi",
        "when": date(2026, 1, 2),
        "kept": 1,
        "response": "x",
        "rewards": [1, 2],
        "responses": ["a", "b"],
    }
    outweigh.generate([row], policy=server.url, out=tmp_path / "o.jsonl", config=SHORT)
    (found,) = read(tmp_path / "o.jsonl")
    assert found["when"] == "2026-01-02" and not {"kept", "response", "rewards"} & set(found)


def test_a_bad_row_ends_it_before_anything_is_asked_or_is_skipped_and_told(server, tmp_path):
    rows = [{"prompt": "Hi"}, {"prompt": ""}, {"prompt": None}, {"prompt": "Ho"}]
    with pytest.raises(DataError, match="row 2: no prompt to answer"):
        outweigh.generate(rows, policy=server.url, out=tmp_path / "o.jsonl")
    assert not server.asked
    found = outweigh.generate(rows, policy=server.url, out=tmp_path / "o.jsonl", on_bad_rows="skip")
    assert found["rows"] == 2 and len(found["bad_rows"]) == 2 and "row 3" in found["bad_rows"][1]
    with pytest.raises(DataError, match="none of 1 rows can be answered"):
        outweigh.generate(rows[1:2], policy=server.url, out=tmp_path / "p.jsonl", on_bad_rows="skip")


@pytest.mark.parametrize("value", [float("nan"), b"bytes", Decimal("1.5"), [float("inf")]])
def test_a_row_that_can_not_be_written_is_bad_before_anything_is_asked(value, server, tmp_path):
    rows = [{"prompt": "Hi"}, {"prompt": "Ho", "score": value}]
    told = {"policy": server.url, "out": tmp_path / "o.jsonl", "config": SHORT}
    with pytest.raises(DataError, match=r"^row 2: can't be written as JSON, got .* Drop the column"):
        outweigh.generate(rows, **told)
    assert not server.asked
    found = outweigh.generate(rows, on_bad_rows="skip", **told)
    assert found["rows"] == 1 and "row 2" in found["bad_rows"][0] and len(server.asked) == 1


def test_a_prompt_too_long_for_the_policy_is_named_with_its_row(tiny_chat, tmp_path):
    rows = [{"prompt": "short"}, {"prompt": "long " * 200}]
    with pytest.raises(DataError, match=r"row 2: prompt of 1,\d+ tokens and a response of 6 do not fit"):
        outweigh.generate(rows, policy=tiny_chat, out=tmp_path / "o.jsonl", config=SHORT)


def test_a_dry_run_says_what_would_be_asked(tiny_chat, tmp_path, capsys):
    from outweigh.cli.main import main

    data = write(tmp_path / "prompts.jsonl", asked(3))
    out = str(tmp_path / "o.jsonl")
    code = main(["generate", str(data), "--policy", str(tiny_chat), "--n", "4", "--out", out, "--dry-run"])
    said = capsys.readouterr().out
    assert code == 0 and "3 prompts would get 12 responses, 3,072 tokens at most" in said
    assert not (tmp_path / "o.jsonl").exists()
