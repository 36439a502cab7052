"""Golds of a domain's own, of answers that are known: right, wrong and endless code, and translations."""

import json
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def execution(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return import_module("execution")


@pytest.fixture(scope="session")
def apart():
    """Whether code can be kept apart here; where not, none is executed, and no answer passes a test."""
    return subprocess.run(["unshare", "--net", "--map-root-user", "true"], check=False).returncode == 0


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
def test_the_gold_of_code_is_the_share_of_tests_that_it_passes(execution, apart, monkeypatch, answer, share):
    monkeypatch.setattr(execution, "SECONDS", 1)
    assert execution.share_passed(answer, [("double(3)", 6), ("double(4)", 8)]) == (share if apart else 0)


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


def test_what_was_drawn_is_judged_not_drawn_again(execution, apart, tmp_path):
    asked = [f"Write a Python function {task}. Answer with code alone." for task in execution.TASKS]
    rows = [{"prompt": each, "responses": ["No.", "def add(a, b):\n    return a + b"]} for each in asked]
    done = run("execution.py", tmp_path, rows)
    if not apart:
        assert done.returncode != 0 and "Is there unshare" in done.stderr
        return
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert (told["tasks"], told["passed_all"], told["solved"]) == (len(asked), 1, 1)
    assert told["gold"] == pytest.approx(1 / (2 * len(asked)))
    refused = run("execution.py", tmp_path, rows[::-1])
    assert refused.returncode != 0 and "answers to other prompts" in refused.stderr


def test_without_unshare_nothing_is_executed_and_that_is_said(execution, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["execution.py", "--work", str(tmp_path)])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="Is there unshare"):
        execution.main()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def translation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return import_module("translation")


def test_a_translation_is_the_first_line_that_says_something(translation):
    assert translation.first_line("\n  Bonjour.  \nThat is it.") == "Bonjour."
    assert translation.first_line(" \n") == ""


@pytest.mark.parametrize(
    ("sentence", "taken"),
    [
        ("This value may only contain letters.", True),
        ("Too short here.", False),
        ("This value may not be %(name)s here.", False),
        ("This value may only contain letters", False),
        ("It is one. And\nit is another one.", False),
    ],
)
def test_sentences_without_blanks_are_translated(translation, sentence, taken):
    assert translation._is_plain(sentence) is taken


def test_what_a_translation_needs_is_named(translation, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["translation.py", "--work", str(tmp_path)])
    monkeypatch.setattr(translation, "find_spec", lambda name: None if name == "sacrebleu" else name)
    with pytest.raises(SystemExit, match=r"pip install -c constraints\.txt sacrebleu"):
        translation.main()
