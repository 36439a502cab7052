"""outweigh demo --out DIR"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from outweigh.cli.parse import Common, Shared, parse


@dataclass(frozen=True, kw_only=True)
class Demo:
    """run, on the pairs that come with the package: a fifth of their training labels is planted wrong."""

    out: Path = Path("demo")
    """Folder for everything."""
    seed: int = 0
    """Decides the models' first weights, the order of the pairs and the resamples."""
    resume: bool = False
    """Take what is finished in DIR as it is, and go on from there."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and runs the demo."""
    told = parse(Demo, arguments)
    from outweigh.cli.show import planted_lines, run_lines, show, show_plan
    from outweigh.data.pairs import read_pairs
    from outweigh.steps.demo import PAIRS, demo, demo_config
    from outweigh.steps.plan import planned, run_passes
    from outweigh.steps.run import resolved

    if told.common.dry_run:
        config, data = resolved(demo_config(told.seed)), PAIRS / "train.jsonl.gz"
        plan = planned(
            read_pairs(data),
            of=data,
            model=config.train.backbone,
            tokens=config.train.tokens,
            passes=run_passes(config),
            writes=[f"{told.out}/report.html"],
        )
        return show_plan(told.common, plan)
    results = demo(out=told.out, seed=told.seed, resume=told.resume, jobs=2)
    show(told.common, results, [*planted_lines(results["planted"]), *run_lines(results, told.out)])
