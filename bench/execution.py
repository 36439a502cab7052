"""Best of n where the gold is a domain's own: the share of a small function's tests that its code passes.

    python bench/execution.py --n 16 --reward-model DIR --work DIR

The policy (SmolLM2) is asked for the functions below; each answer's code runs in a process of its own with
limits on time, memory, files, and without a network (`unshare`), so it may be wrong but not harmful. Prints
JSON: the mean gold, how many answers pass all tests, how many tasks have such an answer, and with a reward
model the best-of-n curve, beside the longest answer. What --work has is not drawn again.
"""

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from domain import judged, parser_of, tell, told_of

SECONDS, BYTES = 2, 512 * 2**20
TASKS: dict[str, list[tuple[str, Any]]] = {
    "add(a, b) that returns the sum of a and b": [("add(2, 3)", 5), ("add(-1, 1)", 0)],
    "is_even(n) that returns True if n is even": [("is_even(4)", True), ("is_even(7)", False)],
    "square(x) that returns x times x": [("square(3)", 9), ("square(-2)", 4)],
    "largest(numbers) that returns the largest number of a list": [
        ("largest([1, 5, 2])", 5),
        ("largest([-3, -9])", -3),
    ],
    "reverse(text) that returns the string reversed": [("reverse('abc')", "cba"), ("reverse('')", "")],
    "count_vowels(text) that returns how many of its letters are vowels": [
        ("count_vowels('banana')", 3),
        ("count_vowels('xyz')", 0),
        ("count_vowels('AE')", 2),
    ],
    "factorial(n) that returns n factorial": [("factorial(5)", 120), ("factorial(0)", 1)],
    "is_palindrome(text) that returns True if the string reads the same backwards": [
        ("is_palindrome('level')", True),
        ("is_palindrome('ab')", False),
    ],
    "total(numbers) that returns the sum of a list of numbers": [("total([1, 2, 3])", 6), ("total([])", 0)],
    "fahrenheit(celsius) that converts degrees": [("fahrenheit(0)", 32), ("fahrenheit(100)", 212)],
    "unique(items) that returns the list without repeated items, in order": [
        ("unique([1, 2, 1])", [1, 2]),
        ("unique(list('hello world'))", list("helo wrd")),
    ],
    "is_prime(n) that returns True if n is a prime number": [
        ("is_prime(7)", True),
        ("is_prime(9)", False),
        ("is_prime(1)", False),
    ],
    "words(text) that returns how many words a sentence has": [
        ("words('a b c')", 3),
        ("words('one')", 1),
    ],
    "second(items) that returns the second item of a list": [("second([4, 5, 6])", 5)],
    "repeat(text, n) that returns the string repeated n times": [
        ("repeat('ab', 2)", "abab"),
        ("repeat('x', 0)", ""),
    ],
    "average(numbers) that returns the mean of a list of numbers": [
        ("average([1, 2, 3])", 2),
        ("average([5])", 5),
    ],
}
RUNNER = """
import json, os, sys
given, out = json.load(sys.stdin), os.dup(1)
sys.stdout = sys.stderr = open(os.devnull, "w")
names, passed = {}, 0
try:
    exec(given["code"], names)
    for call, wanted in given["tests"]:
        try:
            passed += eval(call, names) == wanted
        except Exception:
            pass
finally:
    os.write(out, b"%d" % passed)
"""


def code_of(answer: str) -> str:
    """The first fenced block, or else all from the first definition on."""
    if fenced := re.search(r"```(?:python)?\n(.*?)(?:```|\Z)", answer, flags=re.DOTALL):
        return fenced[1]
    return answer[answer.find("def ") :] if "def " in answer else ""


def share_passed(answer: str, tests: list[tuple[str, Any]]) -> float:
    """Share of the tests that the answer's code passes, 0 where it does not end in time."""
    apart = ["unshare", "--net", "--map-root-user"]
    with tempfile.TemporaryDirectory() as place:
        try:
            done = subprocess.run(
                [*apart, sys.executable, "-sSP", "-c", RUNNER],
                input=json.dumps({"code": code_of(answer), "tests": tests}),
                capture_output=True,
                text=True,
                timeout=5 * SECONDS,
                cwd=place,
                env={"PYTHONHASHSEED": "0"},  # a set's order is the same each time
                preexec_fn=_limited,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 0.0
    return int(done.stdout) / len(tests) if done.stdout.isdigit() else 0.0


def _limited() -> None:
    limits = {resource.RLIMIT_CPU: SECONDS, resource.RLIMIT_AS: BYTES, resource.RLIMIT_FSIZE: 0}
    for name, most in limits.items():
        resource.setrlimit(name, (most, most))


def main() -> None:
    """Draws, runs and prints."""
    told = parser_of(__doc__).parse_args()
    right = "def add(a, b):\n    return a + b"
    if (
        shutil.which("unshare") is None
        or share_passed(right, TASKS["add(a, b) that returns the sum of a and b"]) != 1.0
    ):
        raise SystemExit("execution: right code fails here. Is there unshare, and may it be used?")
    tests = list(TASKS.values())
    asked = [f"Write a Python function {task}. Answer with code alone." for task in TASKS]
    rows = judged(told, asked, lambda place, answer: share_passed(answer, tests[place]))
    passed = sum(gold == 1 for row in rows for gold in row["gold"])
    solved = sum(max(row["gold"]) == 1 for row in rows)
    tell(told_of(told, rows) | {"passed_all": passed, "solved": solved})


if __name__ == "__main__":
    main()
