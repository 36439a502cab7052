"""Every step on real files, with tiny models: what it writes, and that the next one reads it."""

import gzip
import json
import random
import re
import shutil
from dataclasses import replace

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

import outweigh
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.denoising.policies import RepairOptions
from outweigh.errors import ConfigError, DataError, ModelError, TrainingError
from outweigh.metrics.detection import auroc
from outweigh.report.tables import TABLES
from outweigh.steps.config import AuditConfig, RunConfig
from outweigh.steps.plan import passes, run_passes
from outweigh.steps.run import _read, resolved
from outweigh.training.config import TrainConfig
from outweigh.voting.config import ProbeConfig, VoteConfig

SHORT = TokenConfig(max_tokens=96)


def audit_config(backbone, **settings):
    votes = VoteConfig(
        backbone=str(backbone), tokens=SHORT, probes=ProbeConfig(models=4, epochs=10, batch_pairs=16)
    )
    return AuditConfig(votes=votes, **settings)


def train_config(backbone, **settings):
    return TrainConfig(backbone=str(backbone), tokens=SHORT, precision="fp32", batch_pairs=32, **settings)


@pytest.fixture(scope="module")
def pairs_file(wordy_pairs, tmp_path_factory):
    """180 rows of which every tenth label is turned round, with votes and a source."""
    toss = random.Random(0)
    rows = []
    for number, row in enumerate(wordy_pairs * 3):
        row = {
            **row,
            "prompt": f"{row['prompt']} ({number})",
            "votes_chosen": 3,
            "votes_rejected": toss.choice([0, 2]),
        }
        if number % 10 == 0:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        rows.append(row)
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def audited(pairs_file, tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    return folder, outweigh.audit(
        pairs_file,
        out=folder,
        config=audit_config(tiny_bert, policy="flip+margin", repair=RepairOptions(fraction=0.1)),
    )


def test_each_source_of_the_data_is_told_with_its_pairs_also_in_the_report(audited):
    _, found = audited
    sources = found.results["audit"]["by_source"]
    assert [(each["source"], each["pairs"]) for each in sources] == [("even", 90), ("odd", 90)]
    assert [row[:2] for row in TABLES["noise"](found.results).rows] == [["even", "90"], ["odd", "90"]]


def test_an_audit_has_a_line_for_every_pair_and_a_word_on_the_whole(audited, pairs_file):
    folder, found = audited
    table = pq.read_table(folder / "strength.parquet").to_pydict()
    assert table["row"] == list(range(180))
    assert {"strength", "spread", "wrong_probability", "action", "weakness", "loss"} <= set(table)
    assert all(0 <= p <= 1 for p in table["wrong_probability"])
    about = json.loads((folder / "audit.json").read_text())
    assert about["audit"]["noise_rate"]["low"] <= about["audit"]["noise_rate"]["value"]
    assert about["audit"]["trust"]["recommendation"] in ("repair", "keep")
    assert about["data"]["files"][0]["sha256"] == found.results["data"]["files"][0]["sha256"]
    assert (folder / "run.yaml").exists()


def test_pairs_that_contradict_all_others_are_the_most_doubtful(audited):
    doubt = audited[1].audit.wrong_probability
    planted = np.arange(180) % 10 == 0
    assert doubt[planted].min() > doubt[~planted].max()
    assert (audited[1].audit.strength[planted] < 0).all()


def test_denoise_keeps_every_column_and_swaps_what_belongs_to_a_side(audited, pairs_file, tmp_path):
    folder, found = audited
    out = tmp_path / "clean.jsonl"
    counts = outweigh.denoise(pairs_file, audit=folder, out=out)
    before = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    after = [json.loads(line) for line in out.read_text().splitlines()]
    assert counts["written"] == len(after) == 180
    for old, new, flipped in zip(before, after, found.repair.flip, strict=True):
        assert set(old) < set(new)
        assert all(
            isinstance(new[name], float) for name in ("margin", "flip_rate", "weight", "strength", "spread")
        )
        assert (new["chosen"] == old["rejected"]) is bool(flipped)
        assert (new["votes_chosen"] == old["votes_rejected"]) is bool(flipped)


def test_denoise_takes_another_policy_and_another_trainers_rows(audited, pairs_file, tmp_path):
    out = tmp_path / "clean.jsonl.gz"
    counts = outweigh.denoise(pairs_file, audit=audited[0], out=out, policy="margin", peer="ms-swift")
    row = json.loads(gzip.decompress(out.read_bytes()).splitlines()[0])
    assert set(row) == {"messages", "rejected_messages", "margin"}
    assert counts["ignored_by_peer"] == ["flip_rate", "weight"]
    as_if = outweigh.denoise(pairs_file, audit=audited[0], out=None, policy="margin", peer="ms-swift")
    assert as_if == counts


def test_an_audit_of_other_data_is_refused(audited, pairs_file, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(pairs_file.read_text().replace("tea", "coffee"))
    with pytest.raises(DataError, match="is the audit of other data"):
        outweigh.denoise(other, audit=audited[0], out=tmp_path / "clean.jsonl")
    with pytest.raises(DataError, match=r"no whole audit .* Run: outweigh audit DATA --out"):
        outweigh.denoise(other, audit=tmp_path, out=tmp_path / "clean.jsonl")


def test_voters_may_be_models_or_columns(pairs_file, tiny_llama, tmp_path):
    outweigh.train(pairs_file, out=tmp_path / "voter", config=train_config(tiny_llama))
    voter = str(tmp_path / "voter" / "model")
    found = outweigh.audit(pairs_file, config=AuditConfig(votes=VoteConfig(voters=(voter, voter))))
    assert found.audit.trust is None and found.results["denoise"]["policy"] == "keep"
    np.testing.assert_allclose(found.audit.spread, 0, atol=1e-6)  # twice the same voter
    rows = [
        {
            "chosen": f"a {n}",
            "rejected": f"b {n}",
            "mean preference difference": 0.5,
            "std preference difference": 0.2,
        }
        for n in range(120)
    ]
    released = outweigh.audit(rows, config=AuditConfig(votes=VoteConfig(voters=("columns",))))
    np.testing.assert_allclose(released.audit.strength, 0.5)
    np.testing.assert_allclose(released.audit.spread, 0.2)
    with pytest.raises(ConfigError, match="voters columns: the data has neither"):
        outweigh.audit(pairs_file, config=AuditConfig(votes=VoteConfig(voters=("columns",))))


def test_the_data_may_bring_features_of_what_its_texts_only_name(tmp_path):
    rng = np.random.default_rng(0)
    better, worse = rng.normal(0.7, 1, (200, 4)), rng.normal(-0.7, 1, (200, 4))
    wrong = rng.random(200) < 0.2
    rows = [
        {"chosen": f"image {2 * n}", "rejected": f"image {2 * n + 1}"}
        | {
            "features_chosen": (b if turned else a).tolist(),
            "features_rejected": (a if turned else b).tolist(),
        }
        for n, (a, b, turned) in enumerate(zip(better, worse, wrong, strict=True))
    ]
    (tmp_path / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outweigh.audit(
        tmp_path / "images.jsonl", out=tmp_path / "audit", config=AuditConfig(trust=False, policy="flip")
    )
    found = pq.read_table(tmp_path / "audit/strength.parquet").to_pydict()
    assert auroc(np.array(found["wrong_probability"]), wrong) > 0.75  # by the texts it would be chance
    for broken, said in (
        ({"features_chosen": [1.0]}, "1 numbers for chosen, 4 for rejected"),
        ({}, "got those of one side alone"),
    ):
        bad = [row | broken for row in rows]
        if not broken:
            bad = [{k: v for k, v in row.items() if k != "features_rejected"} for row in rows]
        with pytest.raises(DataError, match=said):
            outweigh.audit(PairSet.from_rows(bad), out=tmp_path / "bad")


def test_features_of_unlike_length_or_of_rows_of_k_responses_are_refused(tmp_path):
    rows = [
        {
            "chosen": f"{n}",
            "rejected": "x",
            "features_chosen": [1.0] * (1 + n % 2),
            "features_rejected": [1.0],
        }
        for n in range(100)
    ]
    with pytest.raises(DataError, match=r"'features_chosen' has lists of 1 to 2 numbers, want as many"):
        outweigh.audit(PairSet.from_rows(rows), out=tmp_path / "unlike")
    several = {"responses": ["a", "b", "c"], "ranks": [1, 2, 3]}
    several |= {"features_chosen": [1.0], "features_rejected": [2.0]}
    with pytest.raises(DataError, match="stands on rows of K responses, of which none is its own"):
        outweigh.audit(
            PairSet.from_rows([several | {"prompt": f"p{n}"} for n in range(40)]), out=tmp_path / "several"
        )


def test_too_few_pairs_are_refused_before_anybody_votes(pairs_file, tmp_path):
    pairs = outweigh.read_pairs(pairs_file).select(range(99))
    with pytest.raises(DataError, match="audit: got 99 pairs, want at least 100"):
        outweigh.audit(pairs, out=tmp_path / "audit")
    copies = outweigh.read_pairs(pairs_file).select(list(range(99)) * 2)
    with pytest.raises(DataError, match="audit: got 99 pairs but for copies, 198 with them, want at least 1"):
        outweigh.audit(copies, out=tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


def test_a_run_leaves_everything_that_it_promises(pairs_file, tiny_bert, tmp_path):
    audit = audit_config(tiny_bert, policy="flip", repair=RepairOptions(fraction=0.1))
    config = RunConfig(audit=audit, train=train_config(tiny_bert), held_out=0.2)
    results = outweigh.run(pairs_file, out=tmp_path, config=config)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
        "run.yaml",
        "strength.parquet",
        "audit.json",
        "pairs.clean.jsonl",
        "results.json",
        "report.html",
    }
    assert set(results["evaluation"]) == {"plain", "repaired"}
    assert outweigh.RewardModel.load(tmp_path / "model").score(["Ask."], ["Please."]).shape == (1,)
    clean = (tmp_path / "pairs.clean.jsonl").read_text().splitlines()
    assert len(clean) == results["data"]["pairs"] == 180 - results["eval_data"]["pairs"]
    page = (tmp_path / "report.html").read_text()
    assert "Please pass the" in page and "NaN" not in page
    with pytest.raises(ConfigError, match="holds a finished run"):
        outweigh.run(pairs_file, out=tmp_path, config=config)


def test_in_a_run_the_plain_model_votes_first_and_the_probes_are_witness(pairs_file, tiny_bert, tmp_path):
    audit = audit_config(tiny_bert, policy="flip", repair=RepairOptions(fraction=0.1))
    audit = replace(audit, votes=replace(audit.votes, method="full"))
    train = train_config(tiny_bert, epochs=4, learning_rate=3e-3)
    results = outweigh.run(pairs_file, out=tmp_path, config=RunConfig(audit=audit, train=train, held_out=0.2))
    voters = {}
    for model in tmp_path.glob("voters/*/model"):
        (seed,) = re.findall(r"seed: (\d+)\n", (model / "README.md").read_text())
        voters[seed] = model
    assert voters.keys() == {"1", "2"}  # the second voter, and one that saw planted flips; no first
    assert results["audit"]["voters"] == [str(voters["1"])]
    assert results["audit"]["models"] == 2 and results["audit"]["held_out"]
    table = pq.read_table(tmp_path / "strength.parquet").to_pydict()
    plain = outweigh.RewardModel.load(tmp_path / "plain" / "model", precision="fp32")
    other = outweigh.RewardModel.load(voters["1"], precision="fp32")
    pairs = outweigh.read_pairs(pairs_file)
    pairs = pairs.select(np.flatnonzero(np.isin(pairs.rows, table["row"])))
    gaps = [np.subtract(*model.score_pairs(pairs)) for model in (plain, other)]
    np.testing.assert_allclose(table["strength"], np.mean(gaps, axis=0), atol=1e-5)
    rate = results["audit"]["noise_rate"]["value"]
    assert np.mean(table["wrong_probability"]) == pytest.approx(max(rate, 0.001), abs=1e-6)


def test_where_labels_are_kept_the_plain_model_is_the_outcome_also_after_a_stop(
    pairs_file, tiny_bert, tmp_path
):
    config = RunConfig(audit=audit_config(tiny_bert, policy="keep"), train=train_config(tiny_bert))
    results = outweigh.run(pairs_file, out=tmp_path, config=config)
    assert set(results["evaluation"]) == {"plain"} and not (tmp_path / "plain").exists()
    before = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "plain").mkdir()  # as a stop between the two moves leaves it
    (tmp_path / "training.json").rename(tmp_path / "plain" / "training.json")
    (tmp_path / "results.json").unlink()
    again = outweigh.run(pairs_file, out=tmp_path, config=config, resume=True)
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert not (tmp_path / "plain").exists()
    assert again["evaluation"]["plain"].accuracy == results["evaluation"]["plain"].accuracy


def test_a_run_whose_audit_was_damaged_audits_again_when_it_is_resumed(
    pairs_file, tiny_bert, tmp_path, caplog
):
    audit = audit_config(tiny_bert, policy="flip", repair=RepairOptions(fraction=0.1))
    config = RunConfig(audit=audit, train=train_config(tiny_bert))
    first = outweigh.run(pairs_file, out=tmp_path, config=config)
    (tmp_path / "results.json").unlink()  # as a kill before the end leaves it
    strength, whole = tmp_path / "strength.parquet", pq.read_table(tmp_path / "strength.parquet")
    strength.write_bytes(strength.read_bytes()[:100])
    again = outweigh.run(pairs_file, out=tmp_path, config=config, resume=True)
    assert "The audit is done again" in caplog.text
    np.testing.assert_allclose(pq.read_table(strength)["strength"], whole["strength"], atol=1e-5)
    assert again["denoise"] == first["denoise"]


def test_a_run_asks_for_its_voters_and_its_grade_before_it_trains(
    pairs_file, tiny_bert, tmp_path, monkeypatch
):
    monkeypatch.setattr("outweigh.steps.run.fit", lambda *_, **__: pytest.fail("trained"))
    audit, train = audit_config(tiny_bert, policy="keep", trust=False), train_config(tiny_bert)
    elsewhere = replace(audit, votes=replace(audit.votes, backbone=str(tmp_path / "nowhere")))
    given = replace(audit, votes=VoteConfig(voters=(str(tmp_path / "nowhere"),)))
    for votes in (elsewhere, given):
        with pytest.raises(ModelError, match="nowhere: no such folder"):
            outweigh.run(pairs_file, out=tmp_path / "run", config=RunConfig(audit=votes, train=train))
    graded = RunConfig(audit=audit, train=train, grade="source")
    with pytest.raises(ConfigError, match="grade 'source': the column holds no numbers"):
        outweigh.run(pairs_file, out=tmp_path / "run", config=graded)


def test_a_folder_of_another_verb_is_left_as_it_is(audited, pairs_file, tiny_bert):
    before = (audited[0] / "run.yaml").read_text()
    with pytest.raises(ConfigError, match=r"holds what outweigh audit made\. Choose another folder"):
        outweigh.train(pairs_file, out=audited[0], config=train_config(tiny_bert))
    assert (audited[0] / "run.yaml").read_text() == before


def test_an_audit_whose_parts_are_not_of_one_another_is_none(audited, pairs_file, tmp_path):
    shutil.copytree(audited[0], tmp_path / "mixed")
    table = pq.read_table(tmp_path / "mixed/strength.parquet")
    pq.write_table(table.take(list(range(len(table)))[::-1]), tmp_path / "mixed/strength.parquet")
    with pytest.raises(DataError, match=r"no whole audit \(strength.parquet is not the one of audit.json\)"):
        outweigh.denoise(pairs_file, audit=tmp_path / "mixed", out=tmp_path / "clean.jsonl")
    (tmp_path / "mixed/audit.json").write_text("{}")
    with pytest.raises(DataError, match="no whole audit"):
        outweigh.denoise(pairs_file, audit=tmp_path / "mixed", out=tmp_path / "clean.jsonl")
    with pytest.raises(ConfigError, match="policy drop: drops all 180 pairs"):
        options = RepairOptions(fraction=0.999)
        outweigh.denoise(
            pairs_file, audit=audited[0], out=tmp_path / "c.jsonl", policy="drop", options=options
        )
    assert not (tmp_path / "c.jsonl").exists()


def test_a_run_goes_on_with_its_own_data_and_settings_alone(pairs_file, tiny_bert, tmp_path):
    config = RunConfig(audit=audit_config(tiny_bert, policy="keep"), train=train_config(tiny_bert))
    outweigh.run(pairs_file, out=tmp_path / "run", config=config)
    (tmp_path / "run/results.json").unlink()  # as a kill before the end leaves it
    before = (tmp_path / "run/run.yaml").read_text()

    def refused(said, data=pairs_file, config=config, **how):
        with pytest.raises(ConfigError, match=said):
            outweigh.run(data, out=tmp_path / "run", config=config, resume=True, **how)
        assert (tmp_path / "run/run.yaml").read_text() == before

    refused("run with another seed. Give", config=replace(config, seed=1))
    refused(
        "run with another held_out, train.epochs. Give",
        config=replace(config, held_out=0.2, train=replace(config.train, epochs=2.0)),
    )
    refused("run of other data", eval=[pairs_file, pairs_file])
    (tmp_path / "other.jsonl").write_text(pairs_file.read_text().replace("tea", "coffee"))
    refused("run of other data", data=tmp_path / "other.jsonl")
    votes = replace(config.audit.votes, jobs=2)  # which decides nothing but the time
    resumed = replace(config, audit=replace(config.audit, votes=votes))
    outweigh.run(pairs_file, out=tmp_path / "run", config=resumed, resume=True)
    assert (tmp_path / "run/results.json").exists()


def test_results_are_written_after_the_report_so_that_a_kill_between_can_be_resumed(
    pairs_file, tiny_bert, tmp_path, monkeypatch
):
    config = RunConfig(audit=audit_config(tiny_bert, policy="keep"), train=train_config(tiny_bert))
    with monkeypatch.context() as patched:
        patched.setattr("outweigh.report.write_report", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            outweigh.run(pairs_file, out=tmp_path, config=config)
    outweigh.run(pairs_file, out=tmp_path, config=config, resume=True)
    assert (tmp_path / "report.html").exists() and (tmp_path / "results.json").exists()


def test_rows_that_listwise_training_can_not_use_are_counted_and_listed(tiny_llama, tmp_path):
    ranked = {"responses": ["Please.", "Now!", "Tea?"], "ranks": [1, 2, 2]}
    rows = [{"prompt": f"Ask {n}.", **ranked} for n in range(20)]
    rows += [rows[0] | {"ranks": [1, 1, 1]}, rows[0] | {"ranks": [1]}]
    config = train_config(tiny_llama, objective="listwise")
    with pytest.raises(DataError, match="row 22: 'ranks' has 1 values for 3 responses"):
        outweigh.train(rows, out=tmp_path, config=config)
    data = outweigh.train(rows, out=tmp_path, config=config, on_bad_rows="skip")["data"]
    assert (data["rows"], data["rankings"], data["tied"], data["bad_rows"]) == (22, 20, 1, 1)
    assert json.loads((tmp_path / "bad_rows.jsonl").read_text())["origin"] == "row 22"


def test_a_training_killed_before_its_results_goes_on_and_a_refused_one_changes_nothing(
    pairs_file, tiny_bert, tmp_path
):
    config = train_config(tiny_bert)
    first = outweigh.train(pairs_file, out=tmp_path, config=config)
    (tmp_path / "results.json").unlink()
    before = (tmp_path / "run.yaml").read_text()
    other = replace(config, seed=1)
    with pytest.raises(TrainingError, match=r"model: exists\. Choose another folder"):
        outweigh.train(pairs_file, out=tmp_path, config=other)
    with pytest.raises(ConfigError, match="holds a run with another seed"):
        outweigh.train(pairs_file, out=tmp_path, config=other, resume=True)
    assert (tmp_path / "run.yaml").read_text() == before
    saved = (tmp_path / "model/model.safetensors").stat().st_mtime_ns
    again = outweigh.train(pairs_file, out=tmp_path, config=config, resume=True)
    assert again["train"] == first["train"] and (tmp_path / "results.json").exists()
    assert (tmp_path / "model/model.safetensors").stat().st_mtime_ns == saved


def test_a_data_set_of_the_hub_is_audited_and_denoised_by_what_was_loaded(
    pairs_file, tiny_bert, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # load_dataset takes a folder like a name, and needs no network for it
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    lines = pairs_file.read_text().splitlines(keepends=True)
    (tmp_path / "named").mkdir()
    (tmp_path / "named/train.jsonl").write_text("".join(lines))
    (tmp_path / "named/validation.jsonl").write_text("".join(lines[:90]))
    config = audit_config(tiny_bert, policy="keep", trust=False)
    outweigh.audit("named[train]", out=tmp_path / "audit", config=config)
    outweigh.denoise("named[train]", audit=tmp_path / "audit", out=tmp_path / "clean.jsonl")
    assert len((tmp_path / "clean.jsonl").read_text().splitlines()) == len(lines)
    with pytest.raises(DataError, match="is the audit of other data"):
        outweigh.denoise("named[validation]", audit=tmp_path / "audit", out=tmp_path / "other.jsonl")


def test_an_audit_of_other_rows_in_memory_is_refused(pairs_file, tiny_bert, tmp_path):
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    config = audit_config(tiny_bert, policy="keep", trust=False)
    outweigh.audit(rows, out=tmp_path, config=config)
    assert outweigh.denoise(rows, audit=tmp_path, out=tmp_path / "clean.jsonl")["written"] == 180
    with pytest.raises(DataError, match="is the audit of other data"):
        outweigh.denoise(rows[::-1], audit=tmp_path, out=tmp_path / "clean.jsonl")


def test_voters_are_taken_from_the_folder_only_if_they_were_trained_so(pairs_file, tiny_llama, tmp_path):
    votes = replace(audit_config(tiny_llama).votes, method="full", trainings=1)
    config = AuditConfig(votes=votes, policy="flip", trust=False)

    def trained(pairs, seed):
        training = train_config(tiny_llama, seed=seed)
        outweigh.audit(pairs, out=tmp_path, config=config, training=training)
        return {path.stat().st_mtime_ns for path in tmp_path.glob("voters/*/model/model.safetensors")}

    pairs = outweigh.read_pairs(pairs_file)
    first = trained(pairs_file, 0)
    assert len(first) == 1 and trained(pairs_file, 0) == first
    assert len(trained(pairs_file, 1)) == 2
    assert len(trained(pairs.select(range(150)), 1)) == 3


def test_the_witness_votes_where_it_is_asked_to(pairs_file, tiny_bert, tiny_llama):
    votes = replace(audit_config(tiny_llama).votes, method="full", trainings=1)
    config = AuditConfig(votes=replace(votes, witness_votes=True), policy="flip")
    training = train_config(tiny_bert)
    alone = outweigh.audit(pairs_file, config=replace(config, votes=votes), training=training).audit
    both = outweigh.audit(pairs_file, config=config, training=training).audit
    heads = outweigh.audit(pairs_file, config=replace(config, votes=audit_config(tiny_llama).votes)).audit
    assert alone.voters == 1 and both.voters == 2
    scaled = heads.strength * alone.strength.std() / heads.strength.std()
    np.testing.assert_allclose(both.strength, (alone.strength + scaled) / 2, atol=1e-6)
    with pytest.raises(ConfigError, match="got no full voters that vote in-sample"):
        replace(audit_config(tiny_llama).votes, method="probes", witness_votes=True)
    with pytest.raises(ConfigError, match="got 4 heads for 5 full voters"):
        replace(votes, trainings=5, witness_votes=True)


def test_too_few_pairs_are_refused_before_anything_is_trained(pairs_file, tmp_path):
    few = [json.loads(line) for line in pairs_file.read_text().splitlines()[:60]]
    with pytest.raises(DataError, match="run, beside the pairs to evaluate on: got 54 pairs, want at l"):
        outweigh.run(few, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_prompts_that_are_trained_and_evaluated_on_are_warned_of(pairs_file, tmp_path, caplog):
    rows = pairs_file.read_text().splitlines(keepends=True)
    (tmp_path / "apart.jsonl").write_text(json.dumps({"prompt": "New?", "chosen": "Yes.", "rejected": "No."}))
    (tmp_path / "same.jsonl").write_text("".join(rows[:3]))
    _read(pairs_file, [tmp_path / "apart.jsonl"], RunConfig(), "error")
    assert not caplog.text
    _read(pairs_file, [tmp_path / "same.jsonl"], RunConfig(), "error")
    assert "3 prompts stand both in training and evaluation" in caplog.text


def test_what_a_later_training_would_refuse_is_refused_before_the_first(pairs_file, tiny_bert, tmp_path):
    held_out = [{"chosen": "Please.", "rejected": "Now."}] * 40
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out))
    config = RunConfig(train=replace(train_config(tiny_bert), margin="batch", batch_pairs=179))
    with pytest.raises(ConfigError, match="180 pairs in steps of 179 leave one with a single pair"):
        outweigh.run(pairs_file, out=tmp_path / "run", eval=[tmp_path / "eval.jsonl"], config=config)
    assert not (tmp_path / "run/plain").exists()
    with pytest.raises(ConfigError, match=r"train.beside: a run compares its two models itself"):
        outweigh.run(
            pairs_file, out=tmp_path / "run", config=RunConfig(train=train_config(tiny_bert, beside="x"))
        )


def test_score_keeps_rows_and_order(pairs_file, tiny_llama, tmp_path):
    outweigh.train(pairs_file, out=tmp_path / "t", config=train_config(tiny_llama))
    model = outweigh.RewardModel.load(tmp_path / "t" / "model")
    assert outweigh.score(model, pairs_file, out=tmp_path / "scored.jsonl")["rows"] == 180
    rows = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    for row in rows[:3]:
        rewards = model.score([row["prompt"]] * 2, [row["chosen"], row["rejected"]])
        np.testing.assert_allclose(rewards, [row["reward_chosen"], row["reward_rejected"]], atol=2e-2)  # bf16
        assert row["gap"] == pytest.approx(row["reward_chosen"] - row["reward_rejected"])
    several = [{"prompt": "Ask.", "responses": ["Please.", "Now!", "Tea?"]}]
    assert outweigh.score(model, several, out=tmp_path / "k.jsonl")["rows"] == 1
    assert len(json.loads((tmp_path / "k.jsonl").read_text())["rewards"]) == 3


def test_evaluate_compares_models_on_the_same_pairs(pairs_file, tiny_llama, tmp_path):
    for name, epochs in (("a", 1), ("b", 3)):
        outweigh.train(
            pairs_file,
            out=tmp_path / name,
            config=train_config(tiny_llama, epochs=epochs, learning_rate=3e-3),
        )
    models = [tmp_path / name / "model" for name in "ab"]
    results = outweigh.evaluate(pairs_file, models=models, out=tmp_path / "results.json")
    (found,) = results["sets"].values()
    assert set(found["evaluation"]) == {"a/model", "b/model"}
    assert found["evaluation"]["b/model"].graded["votes"].spearman.value is not None
    (comparison,) = found["comparisons"].values()
    difference = comparison.difference.value
    a, b = (found["evaluation"][name].accuracy.value for name in ("a/model", "b/model"))
    assert difference == pytest.approx(b - a)
    assert json.loads((tmp_path / "results.json").read_text())["command"] == "evaluate"


def test_without_the_gate_no_voter_is_asked_again_and_auto_is_refused(pairs_file, tiny_bert):
    found = outweigh.audit(pairs_file, config=audit_config(tiny_bert, policy="flip", trust=False))
    assert found.audit.trust is None and found.results["audit"]["trust"] is None
    with pytest.raises(ConfigError, match="policy auto needs it"):
        audit_config(tiny_bert, trust=False)


def test_the_passes_of_a_plan_count_every_training():
    two = TrainConfig(epochs=2)
    full = AuditConfig(votes=VoteConfig(method="full", trainings=3))
    assert passes(AuditConfig(), two) == 1
    assert passes(full, two) == 1 + 4 * 3 * 2 + 4  # features; three voters and one planted; their scores
    assert passes(replace(full, trust=False, policy="flip"), two, given=1) == 1 + 2 * 3 * 2 + 3
    folds = replace(full, votes=replace(full.votes, vote="out-of-fold", folds=5))
    assert passes(folds, two, given=1) == 4 * 5 * 3 * 2 + 4
    assert run_passes(resolved(RunConfig(train=two))) == 2 * 3 * 2 + 1 + 2 * 3 * 2 + 3
