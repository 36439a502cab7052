"""What a verb prints: tables and sentences for a person, JSON for a program."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape

from outweigh.cli.parse import Common
from outweigh.steps.plan import plan_lines
from outweigh.steps.record import as_json


def show(common: Common, results: Mapping[str, Any], said: Iterable[RenderableType]) -> None:
    """Nothing; prints the results as JSON with --json, else what is to be said of them."""
    if common.json:
        print(as_json(results))
        return
    console = Console()
    for each in said:
        console.print(escape(each) if isinstance(each, str) else each, highlight=False, soft_wrap=True)


def show_plan(common: Common, plan: Mapping[str, Any]) -> None:
    """Nothing; prints what --dry-run found."""
    show(common, plan, plan_lines(plan))
