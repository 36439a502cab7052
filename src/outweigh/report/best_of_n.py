"""Best-of-n as a figure: mean gold, and the chance to beat a random response, by n."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from outweigh.data.writing import replaced_whole
from outweigh.metrics.intervals import Band
from outweigh.report.plots import COLOURS, DPI, LIGHT, MARKS, STYLE, WIDTH
from outweigh.report.texts import shown_text
from outweigh.selection.curves import BestOfN

MOST_MARKS = 16  # on a longer curve marks would touch


def draw_best_of_n(found: BestOfN, path: Path) -> None:
    """Nothing; the figure goes to `path`, a PNG. Bands are 95 % intervals over prompts."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(1.3 * WIDTH, 5.2), layout="constrained")
        gold, wins = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        for place, (name, curve) in enumerate(found.curves.items()):
            last = place == len(found.curves) - 1  # the gold itself, beyond which nothing is
            colour = LIGHT["muted" if last else COLOURS[place % len(COLOURS)]]
            mark, style = ("", ":") if last else (MARKS[place % len(MARKS)], "-")
            _line(gold, curve.gold, colour, mark, style, shown_text(name))
            _line(wins, curve.wins, colour, mark, style, "")
        first = next(iter(found.curves.values()))
        if first.best_n < found.candidates:
            gold.axvline(first.best_n, color=LIGHT["blue"], linewidth=0.8, linestyle="--")
            gold.annotate(f"most at {first.best_n}", (first.best_n, 0), (3, 3), textcoords="offset points",
                          xycoords=("data", "axes fraction"), color=LIGHT["blue"])  # fmt: skip
        if found.random.value is not None:
            gold.axhline(found.random.value, color=LIGHT["ink"], linewidth=0.8, label="random")
        wins.axhline(0.5, color=LIGHT["ink"], linewidth=0.8)
        ticks = sorted({2**power for power in range(12) if 2**power <= found.candidates} | {found.candidates})
        wins.set_xscale("log", base=2)
        wins.set_xticks(ticks, [str(tick) for tick in ticks])
        wins.xaxis.set_minor_locator(NullLocator())
        gold.set_ylabel("mean gold of what is kept")
        wins.set_ylabel("beats a random one")
        wins.set_xlabel(f"n, responses to keep the best of ({found.prompts:,} prompts)")
        figure.legend(loc="outside upper left", ncols=2)
        with replaced_whole(path) as out:
            figure.savefig(out, dpi=DPI, facecolor=LIGHT["paper"], metadata={"Software": None}, format="png")


def _line(axes: Axes, band: Band, colour: str, mark: str, style: str, label: str) -> None:
    n = range(1, len(band.value) + 1)
    mark = mark if len(band.value) <= MOST_MARKS else ""
    axes.plot(n, band.value, color=colour, marker=mark, linestyle=style, label=label)
    if band.low is not None and band.high is not None:
        axes.fill_between(n, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
