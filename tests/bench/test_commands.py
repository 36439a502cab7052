"""The benches' commands run from end to end, on sizes whose speed means nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")
BENCH = Path(__file__).parents[2] / "bench"
pytestmark = pytest.mark.slow  # TRL alone takes seconds to import, in a process a training


def told_by(script, *told):
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *map(str, told)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]


def test_the_command_for_gpus_runs_on_a_cpu():
    lines = told_by("gpu.py", "--tiny", "--repeats", 1)
    training = {line["way"] for line in lines if line["work"] == "reward"}
    scoring = {line["way"] for line in lines if line["work"] == "scoring"}
    assert training == {"outweigh", "TRL, defaults", "TRL, best settings"}
    assert {"outweigh", "padded", "pipeline", "TRL"} <= scoring
    assert all(line["tokens_a_second"] > 0 and 0 <= line["share"] < 1 for line in lines)
    # tokens are those of the texts as given, which are the same for all: rates differ as pairs a second do
    one, other, _ = (line for line in lines if line["work"] == "reward")
    ratio = one["pairs_a_second"] / other["pairs_a_second"]
    assert one["tokens_a_second"] / other["tokens_a_second"] == pytest.approx(ratio, rel=0.02)


def test_forms_of_attention_are_measured_where_a_cpu_has_them():
    lines = told_by("gpu_attention.py", "--tiny")
    assert [line["work"] for line in lines] == ["attention", "layout", "encoder", "encoder"]
    assert max(lines[0]["apart"]) < 2e-2
    assert all(line["both_ms"] > line["forward_ms"] > 0 for line in lines if "both_ms" in line)


def test_everything_is_measured_written_and_drawn(tmp_path):
    told_by("everything.py", "--quick", "--out", tmp_path)
    found = json.loads((tmp_path / "quick.json").read_text())
    assert set(found) == {"batches", "ratios", "dpo", "scoring", "voting", "growth", "profile"}
    assert all(part["machine"]["cpu"] and part["versions"]["torch"] for part in found.values())
    assert all(part["lines"] for part in found.values())
    assert [line["pairs"] for line in found["growth"]["lines"]] == [20, 200]
    assert (tmp_path / "quick.png").read_bytes()[:4] == b"\x89PNG"
    told_by("everything.py", "--quick", "--only", "profile", "--out", tmp_path)
    again = json.loads((tmp_path / "quick.json").read_text())
    new = [part for part in found if again[part] != found[part]]
    assert new == ["profile"]
