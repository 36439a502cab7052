"""A study from its file to its table: what is run, what is kept, how gains are told from luck."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import ttest_1samp

from outweigh.cli.main import main
from outweigh.errors import ConfigError, DataError, ShapeError, TrainingError
from outweigh.metrics.intervals import Unit
from outweigh.metrics.paired import Gain, gain_over_seeds, holm
from outweigh.study import cells, plan
from outweigh.study.config import AUDIT, Cell, Changes, Study, configured, merged, read_study
from outweigh.study.pairs import CHANGED, change_pairs, held_out_pairs, write_pairs
from outweigh.study.run import check_study, run_study
from outweigh.study.table import study_lines
from outweigh.training.config import TrainConfig
from outweigh.training.contrast import check_contrast
from outweigh.training.items import asked_columns

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def files(tmp_path, wordy_pairs):
    paths = {}
    for name, rows in (("train", wordy_pairs * 2), ("eval", wordy_pairs[::3])):
        paths[name] = str(tmp_path / f"{name}.jsonl")
        numbered = [row | {"prompt": f"{row['prompt']} {place}"} for place, row in enumerate(rows)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in numbered))
    return paths


@pytest.fixture
def grid(files, tiny_llama):
    return {
        "data": {"words": files},
        "methods": {"plain": {}, "margin": {"margin": 1.0}, "flip": {"repair": "flip"}},
        "seeds": [0, 1],
        "planted": [0.2],
        "train": {
            "backbone": str(tiny_llama), "tokens": {"max_tokens": 96}, "validation": 0.0, "precision": "fp32",
            "learning_rate": 3e-3, "epochs": 3,
        },
        "audit": {"votes": {
            "backbone": str(tiny_llama), "probes": {"models": 3}, "tokens": {"max_tokens": 96},
        }},
    }  # fmt: skip


def test_a_study_from_the_command_line_and_again(grid, tmp_path, capsys, monkeypatch):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    told = ["study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out")]
    assert main([*told, "--dry-run"]) == 0
    assert "words, 20% planted, seed 1: flip" in (said := capsys.readouterr().out)
    assert "6 cells, of which 0 are done; 6 trainings and 2 audits are left: about " in said.replace(
        "\n", " "
    )
    assert not (tmp_path / "out").exists()
    assert main(told) == 0
    said = capsys.readouterr()
    assert "6/6 words, 20% planted, seed 1: flip: " in said.err
    table = (tmp_path / "out/table.md").read_text()
    assert "words, 20% planted wrong" in said.out and "gain, points [95 %]" in said.out
    assert (
        f"{100 * json.loads((tmp_path / 'out/study.json').read_text())['lines'][2]['accuracy']:.2f} ±"
        in said.out
    )
    assert max(map(len, said.out.splitlines()[:-1])) <= 80  # a terminal's width
    assert (tmp_path / "out/gains.png").read_bytes()[:4] == b"\x89PNG"
    lines = json.loads((tmp_path / "out/study.json").read_text())["lines"]
    assert [(line["planted"], line["method"], line["seeds"]) for line in lines] == [
        (0.2, method, 2) for method in ("plain", "margin", "flip")
    ]
    flip = lines[-1]
    assert flip["auroc"] is not None and flip["seconds"] > 0 and flip["gain"]["low"] <= flip["gain"]["value"]
    assert not list((tmp_path / "out/work").iterdir())  # no model is left lying
    monkeypatch.setattr(cells, "run_cell", lambda *arguments: pytest.fail("run again"))
    assert main(told) == 0  # all known
    assert (tmp_path / "out/table.md").read_text() == table


def test_what_decides_a_cell_decides_whether_it_is_known(grid, tmp_path, files):
    study = configured(Study, grid | {"seeds": (0,), "planted": (0.2,)}, "here")
    one = {cell.method: cells._file(study, cell, tmp_path) for cell in study.cells}
    assert len(set(one.values())) == 3
    at_once = []
    for jobs in (1, 2):
        audit = {"votes": grid["audit"]["votes"] | {"method": "full", "jobs": jobs}}
        hurried = configured(Study, grid | {"seeds": (0,), "planted": (0.2,), "audit": audit}, "here")
        at_once.append({cell.method: cells._file(hurried, cell, tmp_path) for cell in hurried.cells})
    assert at_once[0] == at_once[1] != one
    heads = {"votes": {"probes": {"models": 4}}}
    voted = configured(Study, grid | {"seeds": (0,), "planted": (0.2,), "audit": heads}, "here")
    two = {cell.method: cells._file(voted, cell, tmp_path) for cell in voted.cells}
    assert one["plain"] == two["plain"] and one["margin"] == two["margin"] and one["flip"] != two["flip"]


def test_each_data_set_brings_the_shifted_responses_of_its_own(grid, files, tmp_path):
    grid["data"] = {name: files | {"shifted": files[name]} for name in ("train", "eval")}
    grid["methods"] = {"plain": {}, "metarm": {"meta": {"data": "shifted", "responses": 2, "prompts": 4}}}
    study = configured(Study, grid | {"seeds": (0,), "planted": (0.0,)}, "here")
    told = [study.training("metarm", seed=0, data=name).meta.data for name in study.data]
    assert told == [files["train"], files["eval"]]
    assert study.training("plain", seed=0, data="train").meta.data is None
    found = run_study(study, out=tmp_path / "out")
    assert [line["seeds"] for line in found["lines"]] == [1] * 4 and not found["failed"]


def test_jobs_in_processes_of_their_own_find_the_same(grid, tmp_path):
    methods = {"plain": {}, "flip": {"repair": "flip"}, "strongest": {"only": [0.5, 1.0]}}
    small = grid | {"seeds": [0], "planted": [0.2], "methods": methods}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(small, sort_keys=False))
    one = run_study(tmp_path / "study.yaml", out=tmp_path / "one")
    two = run_study(tmp_path / "study.yaml", out=tmp_path / "two", jobs=2)
    for first, second in zip(one["lines"], two["lines"], strict=True):
        assert first["accuracy"] == second["accuracy"]
        assert first["log_loss"] == pytest.approx(second["log_loss"], abs=1e-4)


@pytest.fixture
def audited(grid, files, tmp_path):
    study = configured(Study, grid | {"seeds": (0,)}, "here")
    cell = Cell("words", 0.2, 1.0, 0, "flip")
    write_pairs(files, cell, tmp_path / "pairs.jsonl")
    return cells._audited(study, cell, tmp_path / "audits", tmp_path / "pairs.jsonl")


def changed(audited, work, **changes):
    work.mkdir()
    actions = change_pairs(audited, Changes(**changes), 0, work)
    return actions, [json.loads(line) for line in (work / CHANGED).read_text().splitlines()]


def test_a_tenth_by_strength_can_be_trained_on_alone_and_turned_round(audited, tmp_path):
    _, everything = changed(audited, tmp_path / "all", repair="keep")
    _, weakest = changed(audited, tmp_path / "weakest", only=(0.0, 0.1))
    _, turned = changed(audited, tmp_path / "turned", only=(0.0, 0.1), flipped=True)
    strengths = sorted(row["strength"] for row in everything)
    assert len(everything) == 120
    assert sorted(row["strength"] for row in weakest) == strengths[:12]
    assert [row["chosen"] for row in turned] == [row["rejected"] for row in weakest]
    assert [row["row"] for row in weakest] == sorted(row["row"] for row in weakest)


def test_shuffled_an_audit_flips_as_many_pairs_but_others(audited, tmp_path):
    ours, rows = changed(audited, tmp_path / "ours", repair="secrets-flip")
    theirs, others = changed(audited, tmp_path / "theirs", repair="secrets-flip", shuffled=True)
    assert ours == theirs and ours["flip"] == 12
    assert sorted(row["strength"] for row in rows) == sorted(row["strength"] for row in others)
    assert {row["row"] for row in rows if row["action"] == "flip"} != {
        row["row"] for row in others if row["action"] == "flip"
    }


def test_planted_flips_turn_their_rows_round(grid, tmp_path, files):
    marks = write_pairs(files, Cell("words", 0.25, 0.5, 3, "plain"), tmp_path / "pairs.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) == 60 and sum(marks) == 15
    assert all(row["chosen"].startswith("Give") == mark for row, mark in zip(rows, marks, strict=True))


def test_without_an_eval_file_a_quarter_of_the_prompts_is_held_out(files, tmp_path):
    alone = {"train": files["train"]}
    write_pairs(alone, Cell("words", 0.0, 1.0, 3, "plain"), tmp_path / "pairs.jsonl")
    trained = {json.loads(line)["prompt"] for line in (tmp_path / "pairs.jsonl").read_text().splitlines()}
    held = {pair.prompt[0].content for pair in held_out_pairs(alone)}
    assert len(held) == 30 and len(trained) == 90 and not held & trained


def test_the_share_recovered_is_of_what_the_flips_have_cost(files, grid):
    study = configured(Study, grid | {"seeds": (0,), "planted": (0.0, 0.2)}, "here")
    right = {(0.0, "plain"): 18, (0.2, "plain"): 10, (0.2, "flip"): 16}  # of 20 pairs
    found = {
        Cell("words", planted, 1.0, 0, method): {
            "gap": [1.0] * count + [-1.0] * (20 - count), "seconds": {"training": 2.0}, "found": {},
        }
        for (planted, method), count in right.items()
    }  # fmt: skip
    line = study_lines(study, found)[-1]
    assert line.recovered == pytest.approx(6 / 8) and line.gain.value == pytest.approx(0.3)
    assert line.times == 1.0 and line.corrected == line.gain.p_value
    found[Cell("words", 0.0, 1.0, 1, "plain")] = found[Cell("words", 0.2, 1.0, 0, "plain")]  # interrupted
    assert study_lines(study, found)[-1].recovered == pytest.approx(6 / 8)  # by the seeds that all have
    del found[Cell("words", 0.2, 1.0, 0, "plain")]
    line = study_lines(study, found)[-1]
    assert line.recovered is line.times is line.gain is None


def test_a_gain_is_told_from_luck_over_seeds_and_pairs():
    draw = np.random.default_rng(0)
    unit = Unit("pair", np.arange(400), 400)
    real = gain_over_seeds(0.1 + 0.3 * draw.normal(size=(5, 400)), unit)
    assert real.low > 0 and real.p_value < 0.01 and real.value == pytest.approx(0.1, abs=0.02)
    # seeds that disagree: narrow over pairs, wide over seeds
    torn = gain_over_seeds(np.array([[0.1], [-0.1], [0.12], [-0.08]]) + np.zeros((4, 400)), unit)
    assert torn.low < 0 < torn.high and torn.p_value > 0.3


@pytest.mark.parametrize("of_seeds", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seeds", [3, 5])
def test_no_difference_is_found_to_be_one_in_a_twentieth_of_studies(seeds, of_seeds):
    draw, found = np.random.default_rng(1), []
    unit = Unit("prompt", np.arange(80) // 2, 40)
    for _ in range(1000):
        noise = draw.normal(size=(seeds, 80)) + np.repeat(draw.normal(size=40), 2)  # prompts, over all seeds
        found.append(gain_over_seeds(noise + of_seeds * draw.normal(size=(seeds, 1)), unit))
    assert np.mean([each.p_value < 0.05 for each in found]) < 0.09
    assert np.mean([each.low <= 0 <= each.high for each in found]) > 0.91


def test_two_seeds_that_disagree_far_more_than_pairs_are_too_few():
    draw, unit = np.random.default_rng(1), Unit("prompt", np.arange(80) // 2, 40)
    null = (draw.normal(size=(2, 80)) + draw.normal(size=(2, 1)) for _ in range(1000))
    assert 0.07 < np.mean([gain_over_seeds(each, unit).p_value < 0.05 for each in null]) < 0.16


def test_one_seed_is_students_test_over_pairs():
    values = np.random.default_rng(2).normal(0.2, 1, size=60)
    found, expected = gain_over_seeds(values[None], Unit("pair", np.arange(60), 60)), ttest_1samp(values, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_models_that_never_differ_have_no_gain_and_one_pair_tells_nothing():
    assert gain_over_seeds(np.zeros((3, 5)), Unit("pair", np.arange(5), 5)) == Gain(0.0, 0.0, 0.0, 1.0)
    with pytest.raises(ShapeError, match="got 1 held-out pair, want two or more"):
        gain_over_seeds(np.zeros((3, 1)), Unit("pair", np.arange(1), 1))


def test_holm_is_its_steps():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sedes": [1]}, "unknown entry 'sedes'. Did you mean 'seeds'?"),
        (
            {"methods": {"plain": {"epoch": 2}}},
            "methods plain: unknown entry 'epoch'. Did you mean 'epochs'?",
        ),
        ({"methods": {"plain": {"repair": "flop"}}}, "methods plain, repair: got 'flop', want one of keep"),
        (
            {"methods": {"plain": {"only": [0.5, 0.5]}}},
            r"methods plain, only: got \[0.5, 0.5\], want two shares",
        ),
        ({"methods": {"plain": {"flipped": True}}}, "methods plain, flipped: has no meaning without only"),
        (
            {"methods": {"plain": {"shuffled": True}}},
            "methods plain, shuffled: has no meaning without repair or only",
        ),
        (
            {"methods": {"plain": {"meta": {"data": "shifted"}}}},
            "methods plain, meta: words has no file shifted. Add one under data",
        ),
        ({"baseline": "none"}, "baseline: got 'none', want one of plain"),
        ({"planted": [0.7]}, r"planted: got \[0.7\], want numbers from 0 to 0.5"),
        ({"seeds": 3}, "seeds: got 3, want a list"),
        ({"fractions": [0]}, r"fractions: got \[0\], want numbers above 0, at most 1"),
        ({"train": {"seed": 3}}, "train, seed: is the cell's"),
        ({"methods": {"plain": None}}, "plain: got None, want a mapping of options"),
        ({"methods": {"plain": {"learning_rate": "fast"}}}, "learning_rate: got 'fast', want a number"),
        ({"methods": {"plain": {"tokens": 96}}}, "tokens: got 96, want a mapping of its options"),
        (
            {"data": {"words": {"eval": "x"}}},
            "data words: got {'eval': 'x'}, want train, and eval or shifted",
        ),
        (
            {"audit": {"votes": {"method": "guess"}}},
            "audit, votes, method: got 'guess', want one of auto, probes",
        ),
        ({"methods": None}, "want a mapping methods"),
        ({"methods": {1: {}}}, "1: is no name of data or a method. Put it in quotes"),
        ({"seeds": [0, 1, 0]}, r"seeds: got \[0, 1, 0\], one of them twice"),
        ({"methods": {"odd": {"epoch": 2}}}, "unknown entry 'epoch'"),
    ],
)
def test_a_study_that_means_nothing_is_refused_before_anything_runs(grid, tmp_path, change, said):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(grid | change, sort_keys=False))
    with pytest.raises(ConfigError, match=said):
        read_study(tmp_path / "study.yaml")


def test_an_unknown_source_is_refused_before_the_first_cell(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "run_cell", lambda *arguments: pytest.fail("a cell ran"))
    study = configured(Study, grid | {"methods": {"plain": {}, "odd": {"margin": "strenth"}}}, "here")
    with pytest.raises(ConfigError, match="methods odd: margin: got 'strenth', want a number or one of"):
        run_study(study, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"auxiliary": {"centering": 0.1}}, "auxiliary: got centering, want centring"),
        ({"objective": "listwise"}, "objective listwise: a study's data are pairs"),
        (
            {"loss_at": "tokens", "dropout": 0.1, "contrast": {"kind": "simcse"}},
            "loss_at tokens: is of pairs",
        ),
        ({"loss_at": "tokens", "backbone": "minilm"}, "loss_at tokens: .* has one reward a text"),
        ({"method": "frozen", "gradient_checkpointing": True}, "saves nothing with method frozen"),
        ({"device_pairs": 5}, "batch_pairs: got 16, want a multiple of device_pairs"),
        ({"margin": {"source": "batch", "threshold": "median"}}, "threshold: got 'median'"),
        ({"trainer": {"nonsense": 1}}, "trainer: .*nonsense"),
        ({"patience": 2, "validation": 0.0}, "patience: got validation 0"),
        ({"schedule": "steep"}, "steep"),
        ({"meta": {"rho": 0.1}}, "meta rho: .*without meta.data"),
    ],
)
def test_what_no_cell_could_train_is_refused_before_the_first_one(grid, tmp_path, monkeypatch, method, said):
    monkeypatch.setattr(cells, "run_cell", lambda *arguments: pytest.fail("a cell ran"))
    with pytest.raises(ConfigError, match=said):
        run_study(
            configured(Study, grid | {"methods": {"plain": {}, "odd": method}}, "here"), out=tmp_path / "out"
        )


def test_a_damaged_cell_is_run_again_and_no_jobs_are_none(grid, tmp_path):
    study = configured(Study, grid | {"seeds": (0,), "methods": {"plain": {}}, "planted": (0.0,)}, "here")
    first = run_study(study, out=tmp_path / "out")
    (cell,) = (tmp_path / "out" / "cells").iterdir()
    whole = json.loads(cell.read_text())
    cell.write_text(cell.read_text()[:20])
    assert run_study(study, out=tmp_path / "out")["lines"][0]["accuracy"] == first["lines"][0]["accuracy"]
    assert json.loads(cell.read_text())["gap"] == whole["gap"]
    with pytest.raises(ConfigError, match="jobs: got 0, want 1 or more"):
        run_study(study, out=tmp_path / "out", jobs=0)


def test_nothing_is_left_of_cells_that_failed_or_were_killed(grid, files, tmp_path, monkeypatch):
    def ends(*arguments, out, **settings):
        (Path(out) / "voters").mkdir()
        raise DataError("no audit")

    monkeypatch.setattr(cells, "audit", ends)
    out = tmp_path / "out"
    (out / "work" / "of a kill").mkdir(parents=True)
    methods = {"plain": {}, "flip": {"repair": "flip"}}
    study = configured(Study, grid | {"seeds": (0,), "methods": methods}, "here")
    with pytest.raises(TrainingError, match="no audit"):
        run_study(study, out=out)
    assert not list((out / "work").iterdir()) and not list(out.glob("audits/*"))


def test_a_failed_cell_is_named_and_the_others_stand_in_the_table(grid, tmp_path, capsys):
    grid["methods"] = {"plain": {}, "odd": {"learning_rate": 1e30}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(grid | {"seeds": [0]}, sort_keys=False))
    assert main(["study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "odd: failed. training: the loss" in said
    assert "1 of 2 cells failed" in said
    results = json.loads((tmp_path / "out/study.json").read_text())
    assert [line["method"] for line in results["lines"]] == ["plain"] and len(results["failed"]) == 1


def test_a_column_that_a_data_set_lacks_is_asked_for_before_the_first_cell(grid, tmp_path, monkeypatch):
    monkeypatch.setattr("outweigh.study.run.run_cells", lambda *_, **__: pytest.fail("a cell was run"))
    for odd, said in (
        ({"margin": "column"}, "methods odd: margin from 'column': the data has no column margin"),
        ({"margin": {"source": "column", "column": "worth"}}, "methods odd: .*worth"),
        ({"margin": "rating", "repair": "flip"}, "methods odd: .*no column rating_chosen"),
        ({"meta": {"data": "shifted"}}, "methods odd: .*got 2 responses, want 5"),
    ):
        data = {"words": grid["data"]["words"] | {"shifted": grid["data"]["words"]["eval"]}}
        study = configured(Study, grid | {"data": data, "methods": {"plain": {}, "odd": odd}}, "grid")
        with pytest.raises(ConfigError, match=said):
            run_study(study, out=tmp_path)


def test_an_interrupted_study_leaves_the_table_of_what_is_done(grid, tmp_path):
    def stop(cell, found, known):
        raise KeyboardInterrupt

    study = configured(Study, grid, "grid")
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out=tmp_path / "out", told=stop)
    (line,) = json.loads((tmp_path / "out/study.json").read_text())["lines"]
    assert (line["method"], line["seeds"]) == ("plain", 1)
    assert "plain" in (tmp_path / "out/table.md").read_text()


def test_a_number_with_an_exponent_is_one(grid, tmp_path):
    text = yaml.safe_dump(grid, sort_keys=False).replace("margin: 1.0", "learning_rate: 2e-5")
    (tmp_path / "study.yaml").write_text(text)
    assert read_study(tmp_path / "study.yaml").training("margin", seed=0).learning_rate == 2e-5


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_studies_are_whole(path):
    study = read_study(path)
    for method in study.methods:
        training = study.training(method, seed=0)
        asked_columns(training)
        check_contrast(training)


def test_rows_of_several_pairs_are_refused_with_their_place(tmp_path):
    rows = [{"prompt": "p", "chosen": ["a"], "rejected": ["b"]}]
    rows += [{"prompt": "q", "chosen": ["a", "c"], "rejected": ["b"]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"rows.jsonl:2: gives several pairs, want one a row"):
        check_study(Study(data={"d": {"train": str(tmp_path / "rows.jsonl")}}, methods={"plain": {}}))


def test_rows_without_a_pair_are_refused_with_their_place(tmp_path, grid):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "responses": ["b", "c"]}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:1: want chosen and rejected"):
        files = {"train": str(tmp_path / "bad.jsonl"), "eval": "unread"}
        write_pairs(files, Cell("x", 0.0, 1.0, 0, "plain"), tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("votes", "audit"),
    [
        ({"method": "probes"}, 1),
        ({"method": "full", "trainings": 2}, 1 + 2 * 3 * 3 + 2),  # the witness, the trainings, their votes
        ({"method": "auto", "voters": ["a/model", "b/model"]}, 2),
        ({"method": "auto", "voters": ["columns"]}, 0),
    ],
)
def test_a_plan_counts_what_its_trainings_and_audits_read(votes, audit, grid, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_pass", lambda *_: 1.0)  # seconds
    monkeypatch.setattr(cells, "_weights", str)  # of voters that need not exist
    found = plan.planned_study(configured(Study, grid | {"audit": {"votes": votes}}, "a test"), tmp_path)
    assert found["seconds"] == 6 * 3 * 3 + 2 * audit  # six cells of three epochs, and two audits


def test_options_merge_entry_by_entry_but_a_source_stands_alone():
    both = merged(AUDIT, {"votes": {"trainings": 4}})
    assert both == {"policy": "flip", "trust": False, "votes": {"method": "probes", "trainings": 4}}
    cap = {"cap": {"source": "length", "preset": "dialogue"}}
    assert merged(cap, {"cap": {"source": "random"}}) == {"cap": {"source": "random"}}
    assert configured(TrainConfig, merged(cap, {"epochs": 2}), "x").cap == cap["cap"]
