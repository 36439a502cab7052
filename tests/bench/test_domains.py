"""Golds of a domain's own, of answers that are known: right, wrong and endless code, and translations."""

import json
import socket
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
ADD = "add(a, b) that returns the sum of a and b"


@pytest.fixture
def execution(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    found = import_module("execution")
    if found.share_passed("def add(a, b):\n    return a + b", found.TASKS[ADD]) != 1.0:
        pytest.skip("this machine has no unshare, or may not use it")
    return found


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("Sure!\n```python\ndef double(n):\n    return 2 * n\n```\nThis doubles it.", 1.0),
        ("def double(n):\n    return n + 3", 0.5),
        ("```\ndef double(n):\n    while True: pass\n```", 0.0),
        ("def double(n):\n    import os; os._exit(0)", 0.0),
        ("def double(n):\n    print(2); return 2 * n", 1.0),
        ("def double(n:", 0.0),
        ("I would rather not.", 0.0),
    ],
    ids=["fenced", "half", "endless", "leaves", "prints", "no code", "no answer"],
)
def test_the_gold_of_code_is_the_share_of_tests_that_it_passes(execution, monkeypatch, answer, share):
    monkeypatch.setattr(execution, "SECONDS", 1)
    assert execution.share_passed(answer, [("double(3)", 6), ("double(4)", 8)]) == share


def test_code_reaches_no_server(execution):
    body = ("import socket", "socket.create_connection(('127.0.0.1', {}), 1)", "return 2 * n")
    reach = "\n    ".join(("def double(n):", *body))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        exec(reach.format(port), names := {})
        assert names["double"](3) == 6
        assert execution.share_passed(reach.format(port), [("double(3)", 6)]) == 0


def run(script, work, rows):
    (work / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, str(BENCH / script), "--n", "2", "--work", str(work)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_was_drawn_is_judged_not_drawn_again(execution, tmp_path):
    asked = [f"Write a Python function {task}. Answer with code alone." for task in execution.TASKS]
    rows = [{"prompt": each, "responses": ["No.", "def add(a, b):\n    return a + b"]} for each in asked]
    done = run("execution.py", tmp_path, rows)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert (told["tasks"], told["passed_all"], told["solved"]) == (len(asked), 1, 1)
    assert told["gold"] == pytest.approx(1 / (2 * len(asked)))
    refused = run("execution.py", tmp_path, rows[::-1])
    assert refused.returncode != 0 and "answers to other prompts" in refused.stderr


def test_the_gold_of_a_translation_is_1_where_it_is_the_human_one(monkeypatch, tmp_path):
    if find_spec("django") is None or find_spec("sacrebleu") is None:
        done = run("translation.py", tmp_path, [])
        assert done.returncode != 0 and "pip install" in done.stderr
        return
    monkeypatch.syspath_prepend(str(BENCH))
    french = import_module("translation").sentences("fr")
    assert len(french) > 50
    rows = [
        {"prompt": f"Translate into French. Answer with the translation alone.\n\n{english}",
         "responses": [f"\n {human}\nThat is it.", "?"]}
        for english, human in french.items()
    ]  # fmt: skip
    done = run("translation.py", tmp_path, rows)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert 0.5 <= told["gold"] < 0.51 and 0 < told["gold_of_the_english"] < 0.5
