"""The house's rules, held by tests: where imports point, how long files may be, what is public."""

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "outweigh"
LAYERS = [
    *("errors", "limits", "optional", "progress", "yaml12", "servers", "data", "metrics", "objectives"),
    *("models", "training"),
    *("voting", "auditing", "denoising", "evaluation", "generation", "selection", "align", "integrations"),
    *("report", "steps", "study", "cli"),
]
FILES = sorted(path for path in SOURCE.rglob("*.py"))


def layer(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [path for path in FILES if path.parent != SOURCE], ids=str)
def test_imports_only_point_up_the_list(path):
    imported = re.findall(r"^\s*(?:from|import) outweigh\.(\w+)", path.read_text(), flags=re.MULTILINE)
    downwards = [name for name in imported if LAYERS.index(name) > LAYERS.index(layer(path))]
    assert not downwards, f"{layer(path)} imports {downwards}"


def test_every_folder_is_a_layer_and_says_what_it_is_for():
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(LAYERS)
    for folder in folders:
        assert ast.get_docstring(ast.parse((SOURCE / folder / "__init__.py").read_text())), folder


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_has_at_most_400_lines_and_a_function_60(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            lines = node.end_lineno - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)
            assert lines <= 60, f"{node.name}: {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_public_function_and_class_has_a_docstring(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name}"


def test_the_public_names_are_sorted_complete_and_loadable():
    import outweigh

    assert outweigh.__all__ == sorted(outweigh.__all__)
    assert set(outweigh.__all__) == set(outweigh._HOME)
    for name in outweigh.__all__:
        assert getattr(outweigh, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = outweigh.nonsense


def test_importing_outweigh_or_asking_for_help_loads_no_torch():
    program = (
        "import sys, outweigh; from outweigh.cli.main import main; main(['--help']);"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "outweigh VERB --help" in done.stdout


@pytest.mark.parametrize(
    "verb",
    ["run", "audit", "denoise", "train", "align", "score", "evaluate", "generate", "select", "judge", "demo"],
)
def test_the_help_of_each_verb_loads_no_torch(verb):
    program = (
        f"import sys; from outweigh.cli.main import main\ntry:\n    main(['{verb}', '--help'])\n"
        "finally:\n    assert 'torch' not in sys.modules, 'torch is loaded'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"usage: outweigh {verb}" in done.stdout


def test_each_method_of_the_papers_names_functions_and_tests_that_are_there():
    lines = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").splitlines()
    rows = [
        line.strip("| ").split(" | ") for line in lines if line.startswith("| ") and line.count(" | ") == 4
    ]
    assert len(rows) > 50
    for method, _, functions, tests, _ in rows[1:]:
        named = re.findall(r"`((?:\w+\.)+\w+)", functions)
        assert named or functions.startswith(("the same", "policies", "`pairwise_loss", "`cap:")), method
        for name in named:
            pkgutil.resolve_name(f"outweigh.{name}")
        paths = re.findall(r"`([^`]+)`", tests)
        assert paths and all((ROOT / "tests" / path).is_file() for path in paths), method


def test_every_verb_has_its_file_and_every_file_its_verb():
    from outweigh.cli.main import VERBS

    files = {path.stem for path in (SOURCE / "cli").glob("*.py")} - {"__init__", "main", "parse", "show"}
    assert files == set(VERBS)
