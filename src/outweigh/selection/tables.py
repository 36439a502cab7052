"""Best-of-n as a table for a terminal, at n = 1, 2, 4, ... N."""

from string import ascii_uppercase

from rich.markup import escape
from rich.table import Table

from outweigh.metrics.intervals import Band
from outweigh.selection.curves import BestOfN


def best_of_n_table(found: BestOfN) -> Table:
    """A line each n: gold of what each judge keeps, and how often the first one's has more than another's.

    The judges are A, B, ... there, for a name may be a path.
    """
    first, *others = found.curves
    letter = dict(zip(found.curves, ascii_uppercase, strict=False))
    named = ", ".join(f"{letter.get(name, name)} {escape(name)}" for name in found.curves)
    table = Table(
        title=f"Gold of the best of n over {found.prompts:,} prompts: {named}", title_justify="left"
    )
    columns = ["n", "KL at most", *(letter.get(name, name) for name in found.curves), "A beats random"]
    for name in columns + [f"A beats {letter.get(name, name)}" for name in found.duels]:
        table.add_column(name, justify="right")
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
