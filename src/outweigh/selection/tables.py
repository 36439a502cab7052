"""Best-of-n as a table for a terminal, at n = 1, 2, 4, ... N."""

from rich.markup import escape
from rich.table import Table

from outweigh.metrics.intervals import Band
from outweigh.selection.curves import BestOfN


def best_of_n_table(found: BestOfN) -> Table:
    """A line each n: gold of what each judge keeps, and how often the first one's has more than another's."""
    first, *others = found.curves
    table = Table(title=f"Best of n over {found.prompts:,} prompts", title_justify="left")
    for name in ("n", "KL at most", f"gold of {escape(first)}", *map(escape, others), "beats random"):
        table.add_column(name, justify="right")
    for name in found.duels:
        table.add_column(f"beats {escape(name)}", justify="right")
    powers = (2**power for power in range(found.candidates.bit_length()))
    for n in sorted({*powers, found.candidates}):
        table.add_row(
            str(n),
            f"{found.divergence[n - 1]:.2f}",
            _shown(found.curves[first].gold, n),
            *(f"{found.curves[name].gold.value[n - 1]:.3f}" for name in others),
            *(f"{band.value[n - 1]:.3f}" for band in (found.curves[first].wins, *found.duels.values())),
        )
    return table


def _shown(band: Band, n: int) -> str:
    value = f"{band.value[n - 1]:.3f}"
    if band.low is None or band.high is None:
        return value
    return f"{value} [{band.low[n - 1]:.3f}, {band.high[n - 1]:.3f}]"
