"""The gains of a study as a figure: a dot a method with its interval, a panel a data set."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from outweigh.report.plots import DPI, LIGHT, STYLE, WIDTH
from outweigh.report.texts import shown_text
from outweigh.study.table import Line

LINE = 0.26  # inches a method


def draw_gains(lines: Sequence[Line], path: Path) -> bool:
    """Whether there was anything to draw; the figure goes to `path`, a PNG."""
    panels: dict[tuple[str, float, float], list[Line]] = {}
    for line in lines:
        if line.gain is not None:
            panels.setdefault((line.data, line.planted, line.fraction), []).append(line)
    if not panels:
        return False
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        heights = [len(each) + 1.5 for each in panels.values()]
        figure = Figure(figsize=(1.4 * WIDTH, LINE * sum(heights) + 0.5), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for panel, (name, each) in zip(axes, panels.items(), strict=True):
            data, planted, fraction = name
            for place, line in enumerate(each):
                if line.gain is None:
                    continue
                gain, clear = line.gain, line.corrected is not None and line.corrected < 0.05
                colour = LIGHT["blue" if clear else "muted"]
                panel.plot([100 * gain.low, 100 * gain.high], [place, place], color=colour)
                panel.plot([100 * gain.value], [place], "o" if clear else "s", color=colour)
            panel.axvline(0, color=LIGHT["ink"], linewidth=0.8)
            panel.set_yticks(range(len(each)), [shown_text(line.method) for line in each])
            panel.set_ylim(len(each) - 0.5, -0.5)
            title = f"{data}, {planted:.0%} planted" + (
                f", {fraction:.0%} of the pairs" if fraction < 1 else ""
            )
            panel.set_title(shown_text(title), loc="left", fontsize=9.5)
        axes[-1].set_xlabel("gain in accuracy over the baseline, points; blue dots: p < .05, corrected")
        figure.savefig(path, dpi=DPI, facecolor=LIGHT["paper"], metadata={"Software": None})
    return True
