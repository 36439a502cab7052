"""Results as figures: each once, for the page as SVG that follows its colours, and as a PNG file."""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from outweigh.report.tables import Results
from outweigh.report.texts import at, is_number, listed, number, percent, shown_text

# Blue and orange after Okabe and Ito, apart for every kind of colour vision; marks and dashes differ as well.
LIGHT = {
    "paper": "#ffffff", "panel": "#f5f6f8", "ink": "#1a1d21", "muted": "#59616b", "line": "#d5d9de",
    "blue": "#0068a8", "orange": "#b85000", "green": "#007a5a", "purple": "#8d4a86",
}  # fmt: skip
DARK = {
    "paper": "#14171a", "panel": "#1d2125", "ink": "#e4e7ea", "muted": "#9aa4ae", "line": "#363c43",
    "blue": "#62b5e8", "orange": "#f0a24a", "green": "#4fc3a1", "purple": "#d79ad0",
}  # fmt: skip
COLOURS = ("blue", "orange", "green", "purple")
MARKS = ("o", "s", "^", "D")
OF_NAME = {"repaired": 0, "plain": 1}  # the two models of a run look the same in every plot
MOST_POINTS = 400
"""Points of a curve; more can't be seen at this width."""
WIDTH, HEIGHT, DPI = 4.6, 2.9, 200  # inches: on a phone the SVG is shown at about its own size
XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "outweigh",
    "text.parse_math": False,  # a name with a $ is a name
    "font.size": 9.5,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.2,
}


class Plot(NamedTuple):
    """A figure on the page: what it shows, and the same in words for those who can't see it."""

    caption: str
    svg: Markup


class Drawn(NamedTuple):
    """A figure before it is written."""

    figure: Figure
    caption: str
    alt: str


Draw = Callable[[Results], Drawn | None]


def draw_all(results: Results, draws: Mapping[str, Draw], folder: Path) -> dict[str, Plot]:
    """Every plot that the results have data for, by name; each is written to `folder` as a PNG too."""
    plots = {}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        # A model's name may be in any script; the page shows it, the PNG's font may not.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        for name, draw in draws.items():
            drawn = draw(results)
            if drawn is None:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            drawn.figure.savefig(
                folder / f"{name}.png", dpi=DPI, facecolor=LIGHT["paper"], metadata={"Software": None}
            )
            plots[name] = Plot(drawn.caption, _inline_svg(name, drawn))
    return plots


def _inline_svg(name: str, drawn: Drawn) -> Markup:
    """The figure as an <svg> for an HTML page: own ids, the page's colours and font, no size of its own."""
    buffer = io.StringIO()
    drawn.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", svg)
    for colour, value in LIGHT.items():
        svg = svg.replace(value, f"var(--{colour})")
    viewed = re.search(r'viewBox="[^"]*"', svg)
    assert viewed  # matplotlib always writes one
    opening = f'<svg role="img" aria-label="{escape(shown_text(drawn.alt))}" {viewed[0]} {XLINK}>'
    return Markup(opening + svg[svg.index(">") + 1 :].strip())


def accuracy(results: Results) -> Drawn | None:
    """Accuracy of each model with its interval, beside the rule "the longer one wins" and a coin."""
    models = at(results, "evaluation") or {}
    rows = [(name, at(model, "accuracy")) for name, model in models.items()]
    rows = [(name, value) for name, value in rows if is_number(at(value, "value"))]
    if not rows:
        return None
    rule = at(next(iter(models.values())), "longer_wins")
    rows = [("longer one wins", rule), *rows] if is_number(at(rule, "value")) else rows
    figure, axes = new_figure(0.8 + 0.5 * min(len(rows), 20))
    for place, (name, estimate) in enumerate(reversed(rows)):
        value, low, high = (estimate.get(key, estimate["value"]) for key in ("value", "low", "high"))
        colour, mark = ("muted", "d") if name == "longer one wins" else _look(name, list(models))
        axes.errorbar(value, place, xerr=[[max(0, value - low)], [max(0, high - value)]], color=LIGHT[colour],
                      marker=mark, markersize=6, capsize=3)  # fmt: skip
        axes.annotate(f"{value:.3f}", (value, place), (0, 6), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(rows)), [_label(name) for name, _ in reversed(rows)])
    axes.set_ylim(-0.5, len(rows) - 0.3)
    axes.axvline(0.5, color=LIGHT["muted"], linestyle=":", linewidth=1)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("accuracy on held-out pairs (dotted: a coin)")
    said = "; ".join(
        f"{name} {' to '.join(number(value.get(key, value['value'])) for key in ('low', 'high'))}"
        f" around {number(value['value'])}"
        for name, value in rows
    )
    return Drawn(figure, "Accuracy with 95 % intervals.", f"Accuracy: {said}.")


def strength(results: Results) -> Drawn | None:
    """Histogram of strength, with the mean wrong_probability of each bin over it."""
    histogram = at(results, "audit", "strength") or {}
    counts, edges = _histogram(histogram)
    if counts is None:
        return None
    figure, axes = new_figure()
    below = edges[:-1] + edges[1:] < 0
    for side, colour in ((below, "orange"), (~below, "blue")):
        axes.bar(edges[:-1][side], counts[side], np.diff(edges)[side], align="edge", color=LIGHT[colour],
                 alpha=0.55, linewidth=0)  # fmt: skip
    axes.axvline(0, color=LIGHT["ink"], linewidth=0.8)
    axes.set_xlabel("strength, nats (below 0 the ensemble contradicts the label)")
    axes.set_ylabel("pairs")
    chance = _floats(histogram.get("wrong_probability"))
    said = ""
    if len(chance) == len(counts) and np.isfinite(chance).any():
        right = axes.twinx()
        right.plot((edges[:-1] + edges[1:]) / 2, chance, color=LIGHT["ink"], linewidth=1.2)
        right.set_ylim(0, 1)
        right.set_ylabel("wrong_probability (line)")
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        said = " The line is the mean wrong_probability in each bin."
    share = counts[below].sum() / max(1, counts.sum())
    alt = f"Histogram of strength from {number(edges[0], '.1f')} to {number(edges[-1], '.1f')} nats: "
    caption = f"Strength of the pairs; orange below 0.{said}"
    return Drawn(figure, caption, f"{alt}{percent(share)} of the pairs lie below 0.")


def wrong_probability(results: Results) -> Drawn | None:
    """What wrong_probability claims against how many of the planted flips it is right on."""
    points = _points(at(results, "audit", "reliability"))
    if not points:
        return None
    figure, axes = new_figure()
    _diagonal(axes, 0.0)
    claimed, observed, pairs = (np.array(each) for each in zip(*points, strict=True))
    axes.plot(claimed, observed, color=LIGHT["blue"], linewidth=1)
    area = 90 * np.sqrt(pairs / max(pairs.max(), 1)) + 12
    axes.scatter(claimed, observed, area, color=LIGHT["blue"], zorder=3)
    axes.set_xlabel("wrong_probability")
    axes.set_ylabel("share of labels that are wrong")
    said = ", ".join(f"{number(x, '.2f')}: {number(y, '.2f')}" for x, y, _ in points)
    caption = "wrong_probability on planted flips: true on the dashed line. Larger marks hold more pairs."
    return Drawn(figure, caption, f"Wrong probability claimed and observed: {said}.")


def training_loss(results: Results) -> Drawn | None:
    """Log loss by step, on the training pairs and on the validation part."""
    return _curves(results, ("log_loss", "loss"), "eval_log_loss", "log loss, nats")


def training_accuracy(results: Results) -> Drawn | None:
    """Accuracy by step, on the training pairs and on the validation part."""
    return _curves(results, ("accuracy",), "eval_accuracy", "accuracy")


def _curves(results: Results, trained: Sequence[str], watched: str, label: str) -> Drawn | None:
    runs: Mapping[str, Any] = at(results, "train") or {}
    figure, axes = new_figure()
    ends = []
    for name, run in runs.items():
        log = listed(at(run, "log"))
        colour, mark = _look(name, list(runs))
        key = next((key for key in trained if any(key in entry for entry in log)), trained[0])
        for part, each, style in (("training", key, "--"), ("validation", watched, "-")):
            points = [(entry["step"], entry[each]) for entry in log if "step" in entry and each in entry]
            points = points[:: -(-len(points) // MOST_POINTS) or 1]
            if not points:
                continue
            legend = _label(part if len(runs) == 1 else f"{name}, {part}")
            axes.plot(*zip(*points, strict=True), linestyle=style, color=LIGHT[colour], label=legend,
                      linewidth=1.1 if part == "training" else 1.8,
                      marker=mark if part == "validation" or len(points) == 1 else None)  # fmt: skip
            ends.append(f"{name}, {part}, ends at {number(points[-1][1])}")
    if not ends:
        return None
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(label)
    _legend(figure)
    subject = label.split(",")[0].capitalize()
    return Drawn(figure, f"{subject} by step.", f"{subject} by step: {'; '.join(ends)}.")


def reliability(results: Results) -> Drawn | None:
    """Confidence against accuracy of the last model, before and after temperature fitting."""
    for name, model in reversed((at(results, "evaluation") or {}).items()):
        before = _points(at(model, "calibration", "before", "table"))
        after = _points(at(model, "calibration", "after", "table"))
        if not before:
            continue
        figure, axes = new_figure()
        _diagonal(axes, 0.5)
        axes.plot(*list(zip(*before, strict=True))[:2], "s--", color=LIGHT["orange"], label="as trained")
        if after:
            axes.plot(
                *list(zip(*after, strict=True))[:2], "o-", color=LIGHT["blue"], label="with temperature"
            )
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        _legend(figure)
        errors = {when: at(model, "calibration", when, "ece") for when in ("before", "after")}
        said = ", ".join(f"{number(error)} {when} temperature" for when, error in errors.items() if error)
        alt = f"Reliability of the {name} model; expected calibration error {said}."
        caption = f"Reliability of the {name} model: on the dashed line it is right as often as it claims."
        return Drawn(figure, caption, alt)
    return None


def gaps(results: Results) -> Drawn | None:
    """Distribution of gaps, chosen - rejected, of each model."""
    models = at(results, "evaluation") or {}
    figure, axes = new_figure()
    said = []
    for name, model in models.items():
        counts, edges = _histogram(at(model, "gap") or {})
        if counts is None or not counts.sum():
            continue
        colour, _ = _look(name, list(models))
        density = counts / counts.sum() / np.diff(edges)
        axes.stairs(density, edges, color=LIGHT[colour], label=_label(name), linewidth=1.5,
                    linestyle="-" if colour == "blue" else (0, (4, 1.5)))  # fmt: skip
        said.append(f"{name} has mean {number(at(model, 'gap', 'mean'), '.2f')}")
    if not said:
        return None
    axes.axvline(0, color=LIGHT["ink"], linewidth=0.8)
    axes.set_xlabel("gap chosen \u2212 rejected, nats")
    axes.set_ylabel("density")
    _legend(figure)
    return Drawn(figure, "Gaps on held-out pairs; left of 0 the model contradicts the label.",
                 f"Distribution of gaps: {'; '.join(said)} nats.")  # fmt: skip


PLOTS: dict[str, Draw] = {
    "accuracy": accuracy,
    "strength": strength,
    "wrong_probability": wrong_probability,
    "training_loss": training_loss,
    "training_accuracy": training_accuracy,
    "reliability": reliability,
    "gaps": gaps,
}


def new_figure(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure of the page's width, and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside upper left", ncols=2)


def _diagonal(axes: Axes, start: float) -> None:
    axes.plot([start, 1], [start, 1], "--", color=LIGHT["muted"], linewidth=1)


def _look(name: str, names: Sequence[str]) -> tuple[str, str]:
    place = OF_NAME.get(name, 0 if len(names) == 1 else names.index(name))
    return COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]


def _label(name: str) -> str:
    return shown_text(name if len(name) <= 28 else f"{name[:13]}\u2026{name[-13:]}")


def _floats(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([each if is_number(each) else np.nan for each in values or ()], dtype=np.float64)


def _histogram(histogram: Mapping[str, Any]) -> tuple[Any, Any]:
    counts, edges = _floats(histogram.get("counts")), _floats(histogram.get("edges"))
    whole = len(counts) and len(edges) == len(counts) + 1 and np.isfinite([*counts, *edges]).all()
    return (counts, edges) if whole else (None, None)


def _points(table: Any) -> list[tuple[float, float, float]]:
    """Claimed and observed share and number of pairs, under either name that results use for them."""
    points = [
        (row.get("confidence", row.get("predicted")), row.get("accuracy", row.get("observed")),
         row.get("pairs", row.get("count", 1)))
        for row in listed(table)
    ]  # fmt: skip
    return [point for point in points if all(is_number(each) for each in point)]
