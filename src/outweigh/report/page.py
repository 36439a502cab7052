"""The page: everything that a run found out, in one HTML file that opens anywhere, without a network."""

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from outweigh.data.writing import replaced_whole
from outweigh.report import rounds
from outweigh.report.plots import DARK, LIGHT, PLOTS, draw_all
from outweigh.report.summary import key_figures, verdict
from outweigh.report.tables import TABLES
from outweigh.report.texts import at, listed, moment, number, percent, present, shown_text

MOST_DOUBTFUL = 200
"""Pairs on the page: what a person may read in an afternoon."""
MOST_BYTES = 2_000_000
"""Of the pairs' texts; with plots and tables the page stays under 3 MB in every script."""


class DoubtfulPair(NamedTuple):
    """A pair whose label the audit doubts, and what repair did with it."""

    origin: str  # "file:line"
    prompt: str
    chosen: str
    rejected: str
    strength: float
    spread: float
    wrong_probability: float
    action: str  # keep, flip, smooth, margin, drop, joined with +
    source: str | None = None


def write_report(results: Mapping[str, Any], doubtful: Sequence[DoubtfulPair], folder: Path) -> Path:
    """Path of the page: `folder/report.html`, one file; its plots lie in `folder/plots` as PNG too.

    Any part of the results may be absent: what has no data is left out of the page. Of the doubtful pairs,
    given most doubtful first, the first 200 are shown, fewer where they are very long.
    """
    found = present(results)
    folder.mkdir(parents=True, exist_ok=True)
    script = _asset("report.js")
    builds = TABLES | rounds.TABLES
    tables = {name: table for name, build in builds.items() if (table := build(found)) is not None}
    html = _environment().get_template("report.html").render(
        tables=tables,
        plots=draw_all(found, PLOTS | rounds.PLOTS, folder / "plots"),
        pairs=_fitting(doubtful),
        doubted=len(doubtful),
        actions=sorted({action for pair in doubtful for action in pair.action.split("+") if action}),
        verdict=rounds.rounds_verdict(found) or verdict(found),
        figures=key_figures(found),
        notes=_notes(found),
        created=moment(at(found, "created")),
        version=at(found, "outweigh"),
        command=_command(found),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(_asset("report.css")),
        light=LIGHT,
        dark=DARK,
    )  # fmt: skip
    path = folder / "report.html"
    with replaced_whole(path) as out:
        out.write(html.encode())
    return path


def _command(results: Mapping[str, Any]) -> Any:
    """What to type to have the same again, where run.yaml lies beside the page."""
    verb = at(results, "command")
    if verb == "demo":
        return f"outweigh demo --seed {at(results, 'seed')} --out DIR"
    data, held_out = (
        [str(each.get("path")) for each in listed(at(results, key, "files"))] for key in ("data", "eval_data")
    )
    if verb != "run" or not data:
        return verb
    told = [data[0] if len(data) == 1 else str(Path(data[0]).parent)]
    if at(results, "eval_data", "unit") == "given":
        told += ["--eval", *held_out]
    return shlex.join(["outweigh", "run", *told, "--config", "run.yaml", "--out", "DIR"])


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("outweigh.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {"number": number, "percent": percent}
    return environment


def _finalize(value: Any) -> Any:
    """Every expression of the template passes here, so no text of a user's reaches the page as it came."""
    return value if isinstance(value, (Markup, int)) else shown_text(value)


def _asset(name: str) -> str:
    return files("outweigh.report").joinpath(name).read_text(encoding="utf-8")


def _fitting(doubtful: Sequence[DoubtfulPair]) -> list[DoubtfulPair]:
    """The first pairs, at most 200 and as many as fit into the page's bytes."""
    fitting, total = [], 0
    for pair in doubtful[:MOST_DOUBTFUL]:
        texts = (pair.prompt, pair.chosen, pair.rejected)
        total += sum(len(escape(shown_text(text)).encode()) for text in texts)
        if total > MOST_BYTES:
            break
        fitting.append(pair)
    return fitting


def _notes(results: Mapping[str, Any]) -> dict[str, Any]:
    """Sentences and lists that belong to a section but to no table."""
    checks = [part for name in ("data", "eval_data") if isinstance(part := at(results, name), Mapping)]
    return {
        "unread": {key: near for part in checks for key, near in part.get("unread_columns", {}).items()},
        "shared": [text for part in checks for text in part.get("shared_examples", [])],
        "trust": at(results, "audit", "trust", "reason"),
        "policy": at(results, "denoise", "policy"),
        "repair": at(results, "denoise", "reason"),
        "quiet": any(isinstance(run, Mapping) for run in (at(results, "train") or {}).values()),
    }
