"""The command line as a user meets it: exit codes, messages without a stack trace, how options are set."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import tyro
import yaml

from outweigh.cli.main import main
from outweigh.cli.parse import Common, Shared, parse
from outweigh.errors import ConfigError
from outweigh.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb."""

    data: tyro.conf.Positional[str]
    """Data."""
    train: TrainConfig = field(default_factory=TrainConfig)
    flat: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    names: tuple[str, ...] = ()
    once: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    common: Shared = field(default_factory=Common)


def test_set_config_and_flags_reach_every_field_and_the_later_wins(tmp_path):
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {
                "epochs": 2,
                "margin": {"source": "strength", "clip": 2.0},
                "train": {"tokens": {"max_tokens": 99}},
            }
        )
    )
    settings = ["batch_pairs=8", "train.dropout=0.1", "device_pairs=null", "gradient_checkpointing=true"]
    flags = [part for setting in settings for part in ("--set", setting)]
    told = parse(Verb, ["d", "--config", str(tmp_path / "c.yaml"), *flags, "--epochs", "3"])
    assert told.flat.epochs == 3
    assert told.flat.margin == {"source": "strength", "clip": 2.0}
    assert (told.flat.batch_pairs, told.flat.device_pairs, told.flat.gradient_checkpointing) == (
        8,
        None,
        True,
    )
    assert (told.train.tokens.max_tokens, told.train.dropout) == (99, 0.1)


def test_a_list_of_the_config_takes_no_argument_of_the_users_and_the_users_list_wins(tmp_path):
    (tmp_path / "c.yaml").write_text("names: [a, b]\nepochs: 2\n")
    config = ["--config", str(tmp_path / "c.yaml")]
    told = parse(Verb, ["d", *config])
    assert (told.data, told.names, told.flat.epochs) == ("d", ("a", "b"), 2)
    assert parse(Verb, [*config, "d"]).names == ("a", "b")
    assert parse(Verb, ["d", *config, "--set", "names=[c]"]).names == ("c",)
    assert parse(Verb, ["d", *config, "--set", "names=[c]", "--names", "e", "f"]).names == ("e", "f")


def test_a_list_of_the_config_is_one_of_flags_where_its_flag_is_repeated(tmp_path):
    (tmp_path / "c.yaml").write_text("once: [a, b]\n")
    config = ["--config", str(tmp_path / "c.yaml")]
    assert parse(Verb, [*config, "d"]).once == ("a", "b")
    assert parse(Verb, ["d", *config, "--set", "once=[c, e, f]"]).once == ("c", "e", "f")
    assert parse(Verb, ["d", *config, "--once", "g", "--once", "h"]).once == ("g", "h")


def test_a_string_is_handed_on_as_it_is_where_the_option_is_no_yaml(tmp_path):
    told = parse(Verb, ["d", "--set", "backbone='123'", "--set", "margin='123'", "--set", "names=['1']"])
    assert (told.flat.backbone, told.flat.margin, told.names) == ("123", "123", ("1",))


def test_a_number_with_an_exponent_is_a_number_wherever_yaml_is_read(tmp_path):
    (tmp_path / "c.yaml").write_text("learning_rate: 1e-3\ncap: 1e3\n")
    told = parse(Verb, ["d", "--config", str(tmp_path / "c.yaml"), "--margin", "1e-2", "--set", "weight=2e0"])
    flat = told.flat
    assert (flat.learning_rate, flat.cap, flat.margin, flat.weight) == (1e-3, 1e3, 1e-2, 2.0)
    both = parse(Verb, ["d", "--set", "flip-rate={source: votes, strength: 1e-1}"]).flat
    assert both.flip_rate == {"source": "votes", "strength": 0.1}


def test_broken_yaml_is_the_users_and_is_said_wherever_it_stands(capsys, tmp_path):
    broken = "{source: strength"
    with pytest.raises(SystemExit) as left:
        parse(Verb, ["d", "--margin", broken])
    assert left.value.code == 2
    assert "Error parsing --margin: '{source: strength': no valid YAML" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text(f"margin: {broken}")
    for told in (["--set", f"margin={broken}"], ["--config", str(tmp_path / "c.yaml")]):
        with pytest.raises(ConfigError, match=r"no valid YAML \(expected .* line \d, character \d+\)"):
            parse(Verb, ["d", *told])
    (tmp_path / "c.yaml").write_bytes(b"margin: \xff")
    with pytest.raises(ConfigError, match="no valid YAML"):
        parse(Verb, ["d", "--config", str(tmp_path / "c.yaml")])


@pytest.mark.parametrize("option", ["--epohs 3", "--epochs many", "--method fulll"])
def test_an_option_that_is_not_understood_exits_with_2(option, capsys):
    with pytest.raises(SystemExit) as left:
        parse(Verb, ["d", *option.split()])
    assert left.value.code == 2


def said(capsys, *arguments):
    code = main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_a_misspelt_verb_is_answered_with_the_near_one(capsys):
    code, _, err = said(capsys, "audti")
    assert (code, err) == (2, "outweigh: no verb 'audti'. Did you mean 'audit'?\n")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("--set", "epoch=1"), "--set: unknown option epoch. Did you mean epochs?"),
        (("--set", "tokens.max_token=8"), "unknown option tokens.max_token. Did you mean tokens.max_tokens?"),
        (("--set", "nonsense=1"), "--set: unknown option nonsense. Want one of out, "),
        (("--set", "data=x.jsonl"), "--set: unknown option data. Want one of out, "),
        (("--set", "tokens=5"), "--set: tokens: got 5, want a mapping of its options."),
        (("--set", "tokens.max_tokens=[5]"), "--set: tokens.max_tokens: got [5], want a single value."),
        (("--set", "epochs={a: 1}"), "--set: epochs: got {'a': 1}, want a single value."),
        (("--set", "epochs=true"), "--set: epochs: got True, want no truth value."),
        (("--set", "epochs="), "--set: epochs: got None, want a value."),
        (("--set", "quiet=maybe"), "--set: quiet: got 'maybe', want true or false."),
        (("--set", "out=[a, b]"), "--set: out: got ['a', 'b'], want a single value."),
        (("--config", "c.yaml"), "c.yaml: unknown option tokens.max_token. Did you mean tokens.max_tokens?"),
    ],
)
def test_an_unknown_option_of_a_file_or_set_is_named(told, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("epochs: 1\nmargin: {source: rating}\ntokens: {max_token: 32}\n")
    assert main(["train", "pairs.jsonl", "--out", "o", *told]) == 2
    assert said in capsys.readouterr().err


def test_a_run_yaml_repeats_its_run(capsys, tmp_path, tiny_bert):
    path = written(tmp_path, *(GOOD | {"prompt": f"p {n}"} for n in range(100)))
    own = {
        "train": [
            "--backbone",
            tiny_bert,
            "--epochs",
            "0.5",
            "--cap",
            "{source: length, preset: dialogue-dpo}",
        ],
        "audit": ["--votes.backbone", tiny_bert, "--no-trust", "--policy", "keep"],
    }
    own["train"] += ["--auxiliary", "{centring: 0.1}", "--tokens.max-tokens", "64"]
    for verb, flags in own.items():
        first, second = tmp_path / f"{verb}-1", tmp_path / f"{verb}-2"
        code, _, err = said(capsys, verb, path, "--out", first, *flags)
        assert code == 0, err
        code, _, err = said(capsys, verb, path, "--out", second, "--config", first / "run.yaml")
        assert code == 0, err
        one, other = (yaml.safe_load((each / "run.yaml").read_text()) for each in (first, second))
        assert one["settings"] == other["settings"]
    of_an_audit = tmp_path / "audit-1/run.yaml"
    code, _, err = said(capsys, "train", path, "--out", tmp_path / "x", "--config", of_an_audit)
    assert code == 2 and "is of outweigh audit, want one of outweigh train" in err


def test_set_without_an_equals_sign_and_an_absent_config_are_the_users(capsys, tmp_path):
    code, _, err = said(capsys, "train", "d", "--out", tmp_path, "--set", "epochs")
    assert code == 2 and "--set: got 'epochs', want key=value" in err
    code, _, err = said(capsys, "train", "d", "--out", tmp_path, "--config", tmp_path / "no.yaml")
    assert code == 2 and "no.yaml: can't be read" in err


def written(tmp_path, *lines, name="pairs.jsonl"):
    path = tmp_path / name
    path.write_bytes(
        b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    )
    return path


GOOD = {"prompt": "p", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no rows"),
        ([{"prompt": "p", "choosen": "a", "rejected": "b"}], "Did you mean 'choosen'"),
        ([GOOD, GOOD | {"chosen": None}], "pairs.jsonl:2: 'chosen' is null"),
        ([GOOD | {"margin": 1.0}, GOOD], "margin"),
        ([GOOD, b'{"prompt": "p", \n'], "pairs.jsonl:2"),
        ([b'{"prompt": "\xff", "chosen": "a", "rejected": "b"}\n'], "UTF-8"),
        ([GOOD | {"margin": float("nan")}], "NaN"),
        (
            [
                GOOD
                | {
                    "chosen": [{"role": "asistant", "content": "a"}],
                    "rejected": [{"role": "assistant", "content": "b"}],
                }
            ],
            "role",
        ),
        ([GOOD], "at least 100"),
    ],
)
def test_bad_input_gets_a_line_that_says_where_and_what_to_do(lines, message, capsys, tmp_path, tiny_bert):
    path = written(tmp_path, *lines)
    code, _, err = said(capsys, "audit", path, "--out", tmp_path / "out", "--votes.backbone", tiny_bert)
    assert code == 2
    assert message in err and err.startswith("outweigh audit: ")
    assert not (tmp_path / "out" / "audit.json").exists()


def test_absent_data_and_models_are_named(capsys, tmp_path):
    code, _, err = said(capsys, "audit", tmp_path / "no.jsonl", "--out", tmp_path / "out")
    assert code == 2 and "no.jsonl" in err
    (tmp_path / "empty").mkdir()
    code, _, err = said(capsys, "audit", tmp_path / "empty", "--out", tmp_path / "out")
    assert code == 2 and "no data in this folder" in err
    path = written(tmp_path, GOOD)
    code, _, err = said(capsys, "train", path, "--out", tmp_path / "t", "--backbone", tmp_path / "model")
    assert code == 2 and "no such folder" in err
    code, _, err = said(capsys, "score", tmp_path / "empty", path, "--out", tmp_path / "s.jsonl")
    assert code == 2 and "no config.json" in err


@pytest.mark.parametrize("verb", ["train", "audit", "align dpo", "run"])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("theirs", "said_of_it"),
    [
        ("command: study\noutweigh: 0\n", "holds what outweigh study made"),
        ("epochs: 2\n", "holds a run.yaml that is not outweigh's"),
        ("", "holds a run.yaml that is not outweigh's"),
    ],
)
def test_a_folder_that_is_anothers_is_refused_before_anything_is_read(
    verb, dry, theirs, said_of_it, capsys, tmp_path
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.yaml").write_text(theirs)
    code, _, err = said(capsys, *verb.split(), written(tmp_path, GOOD), "--out", out, *dry)
    assert code == 2 and said_of_it in err
    assert [path.name for path in out.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("verb", ["score", "generate"])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_rows_are_not_written_over(verb, dry, capsys, tmp_path):
    path, out = written(tmp_path, GOOD), tmp_path / "out.jsonl"
    out.write_text("precious\n")
    how = ["no/model", path] if verb == "score" else [path, "--policy", "no/model"]
    code, _, err = said(capsys, verb, *how, "--out", out, *dry)
    assert code == 2 and "is there already" in err and out.read_text() == "precious\n"


def test_what_was_meant_is_said_of_models_and_kinds_of_alignment(capsys, tmp_path):
    path, out = written(tmp_path, GOOD), tmp_path / "out.jsonl"
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    for arguments, meant in (
        (("score", tmp_path / "run", path, "--out", out), f"Did you mean {tmp_path / 'run' / 'model'}?"),
        (("score", "localhost:9/v1", path, "--out", out), "Did you mean http://localhost:9/v1?"),
        (("score", "http:///get_reward", path, "--out", out), "names no host"),
        (("score", f"uwo:{tmp_path},", path, "--out", out), "names no model beside a comma"),
        (("score", "uwo(nan):a,b", path, "--out", out), "want the penalty of uwo"),
        (("align", "foo", path, "--out", out), "got foo, want dpo or rl first"),
        (("align",), "got nothing, want dpo or rl first"),
        (("judge", path, "--by", "gold", "--prices", "-1", "2"), "want two numbers of 0 or more"),
        (("denoise", path, "--audit", out, "--out", out, "--smooth-band", "nan"), "smooth_band: got nan"),
        (("audit", path, "--out", out, "--policy", "drop", "--repair.fraction", "1"), "drops every pair"),
        (("score", "http://[x/get_reward", path, "--out", out), "names no host"),
    ):
        code, _, err = said(capsys, *arguments)
        assert code == 2 and meant in err.replace("\n", " "), err


@pytest.mark.parametrize("told", ["--help", "--version", "train --help"])
def test_a_reader_that_has_gone_is_no_fault(told):
    read, write = os.pipe()
    os.close(read)
    program = [sys.executable, "-m", "outweigh", *told.split()]
    done = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 0 and not done.stderr


def test_a_language_model_is_no_reward_model(capsys, tmp_path, tiny_llama):
    code, _, err = said(capsys, "score", tiny_llama, written(tmp_path, GOOD), "--out", tmp_path / "s.jsonl")
    assert code == 2
    assert "score.weight" in err or "labels" in err


def test_skipped_rows_are_counted_said_and_listed(capsys, caplog, tmp_path, tiny_llama):
    rows = [GOOD | {"prompt": f"p {n}"} for n in range(40)]
    path = written(tmp_path, *rows, {"prompt": "p"})
    flags = ["--tokens.max-tokens", "64", "--on-bad-rows", "skip", "--json"]
    code, out, _ = said(capsys, "train", path, "--out", tmp_path / "t", "--backbone", tiny_llama, *flags)
    assert code == 0
    assert f"Bad rows skipped: 1. {path}:41: no column 'chosen'" in caplog.text
    assert json.loads(out)["data"]["bad_rows"] == 1
    assert "no column 'chosen'" in (tmp_path / "t" / "bad_rows.jsonl").read_text()


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(capsys, tmp_path, tiny_bert):
    path = written(tmp_path, *(GOOD | {"prompt": f"p {n}"} for n in range(40)))
    code, out, _ = said(capsys, "train", path, "--out", tmp_path / "t", "--backbone", tiny_bert, "--dry-run")
    assert code == 0
    assert "40 rows give 40 pairs" in out and "tokens, about" in out and "Would write" in out
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("verb", "flags", "refused"),
    [
        ("train", ["--margin", "rating"], "the data has no column rating_chosen"),
        ("train", ["--margin", "foo"], "margin: got 'foo'"),
        ("align", ["--cap", "{source: length, beta: wide}"], "beta"),
        ("audit", [], "audit: got 40 pairs, want at least 100"),
        ("audit", ["--full.epochs", "2"], "full: has no meaning without full voters"),
        ("run", [], "run, beside the pairs to evaluate on: got 36 pairs, want at least 100"),
        ("score", [], "is what is read"),
        ("judge", ["--by", "gold"], "is what is read"),
        ("evaluate", ["--model", "minilm"], "is what is read"),
        ("generate", ["--policy", "smollm2"], "is what is read"),
        ("select", [], "is what is read"),
        ("denoise", ["--audit", "nowhere"], "is what is read"),
        ("train", ["--eval", "no.jsonl"], "no.jsonl"),
        ("train", ["--meta.data", "no.jsonl"], "no.jsonl"),
        ("train", ["--beside", "nowhere"], "nowhere/results.json holds no results"),
        ("train", ["--schedule", "wobbly"], "wobbly"),
        ("train", ["--trainer", "{foo: 1}"], "foo"),
        ("train", ["--device-pairs", "7"], "want a multiple of device_pairs"),
        ("train", ["--tokens.max-tokens", "0"], "max_tokens: got 0, want a whole number, 8 or more"),
        ("train", ["--epochs", "1e400"], "epochs: got inf, want more than 0"),
        ("train", ["--seed", "4294967296"], "seed: got 4294967296"),
        ("run", ["--held-out", "nan"], "held_out: got nan"),
        ("run", ["--eval", "no.jsonl"], "no.jsonl"),
        ("audit", ["--votes.tokens.max-tokens", "-5"], "max_tokens: got -5, want a whole number, 8 or more"),
        ("align", ["--reference", "./nowhere"], "nowhere: no such folder"),
        ("align", ["--eval", "no.jsonl"], "no.jsonl"),
        ("align", ["--backbone", "minilm"], "minilm: no causal model"),
        ("align rl", ["--reward-model", "./nowhere"], "nowhere: no such folder"),
        ("evaluate", ["--model", "minilm", "--grade", "nowhere"], "no column 'nowhere'"),
        ("audit", ["--seed", "-1"], "seed: got -1, want a whole number"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would_refuse(verb, flags, refused, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("outweigh.steps.plan.load_tokenizer", lambda *_: pytest.fail("a model was loaded"))
    path = written(tmp_path, *(GOOD | {"prompt": f"p {n}"} for n in range(40)))
    out = path if refused == "is what is read" else tmp_path / "out"
    model = ["minilm"] if verb in ("score", "select") else []
    kind = ["dpo"] if verb == "align" else []
    code, _, err = said(capsys, *verb.split(), *kind, *model, path, "--out", out, *flags, "--dry-run")
    assert code == 2 and refused in err.replace("\n", " "), err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path, wordy_pairs):
    path = written(tmp_path, *wordy_pairs)
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
    program = f"{limit} import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);" + (
        "from outweigh.data.writing import write_rows; from outweigh.data.files import raw_rows;"
        f"write_rows({str(tmp_path / 'out.jsonl')!r}, (raw.values for raw in raw_rows({str(path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "can't be written" in done.stderr
    assert not (tmp_path / "out.jsonl").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.slow
def test_control_c_ends_quietly_and_resume_goes_on(tmp_path, tiny_bert, wordy_pairs):
    path = written(tmp_path, *wordy_pairs)
    arguments = [
        "train",
        str(path),
        "--out",
        str(tmp_path / "t"),
        "--backbone",
        str(tiny_bert),
        "--epochs",
        "60",
    ]
    arguments += ["--save-every-steps", "5", "--tokens.max-tokens", "64", "--resume"]
    command = [sys.executable, "-m", "outweigh", *arguments]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "t" / "checkpoints").glob("checkpoint-*")):
        time.sleep(0.05)
        assert running.poll() is None, running.stderr.read()
    running.send_signal(signal.SIGINT)
    err = running.communicate()[1]
    assert running.returncode == 130
    assert "interrupted" in err and "Traceback" not in err
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Resuming from" in done.stderr


def test_a_capped_training_says_what_its_caps_are(tiny_llama, wordy_pairs, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in wordy_pairs))
    told = [
        "--backbone",
        str(tiny_llama),
        "--cap",
        "length",
        "--validation",
        "0",
        "--tokens.max-tokens",
        "96",
    ]
    main(["train", str(rows), "--out", str(tmp_path / "out"), *told])
    said = capsys.readouterr().out
    assert "Caps in nats: median" in said and "Length ratio: median" in said


def test_a_training_says_what_it_saw_what_it_left_out_and_how_it_does(
    tiny_llama, wordy_pairs, tmp_path, capsys
):
    rows = tmp_path / "rows.jsonl"
    same, long = (
        dict(wordy_pairs[0], rejected=wordy_pairs[0]["chosen"]),
        dict(wordy_pairs[0], chosen="so " * 99),
    )
    rows.write_text("".join(json.dumps(row) + "\n" for row in [*wordy_pairs, same, long]))
    how = ["--backbone", str(tiny_llama), "--tokens.max-tokens", "96", "--epochs", "1", "--batch-pairs", "32"]
    assert main(["train", str(rows), "--out", str(tmp_path / "out"), *how]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["train"]["model"]
    said = capsys.readouterr().out
    assert f"Steps: {found['steps']}, on {found['pairs']} pairs." in said
    assert "Left out: 1 of equal responses." in said and "Cut to fit: 1 prompts, 1 responses." in said
    assert f"On {found['validation']['pairs']} validation pairs: accuracy " in said

    listwise = [
        {"prompt": f"Ask {n}.", "responses": ["Please.", "Now.", "Tea!"], "ranks": [1, 2, 3]}
        for n in range(8)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in listwise))
    how += ["--objective", "listwise", "--validation", "0"]
    assert main(["train", str(rows), "--out", str(tmp_path / "lists"), *how]) == 0
    assert "on 8 rows of several responses." in capsys.readouterr().out


def test_a_pair_of_numbers_is_a_list_of_the_config():
    from outweigh.cli.judge import JudgeVerb

    told = parse(JudgeVerb, ["d", "--by", "gold", "--set", "prices=[1, 2.5]"])
    assert told.prices == (1.0, 2.5)
