"""What a study would run, and what that would cost."""

from functools import cache
from pathlib import Path
from typing import Any

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import read_pairs
from outweigh.steps.plan import TRAINING_PASSES, passes, planned
from outweigh.steps.votes import COLUMNS
from outweigh.study.cells import audits_of, parted_cells
from outweigh.study.config import Study
from outweigh.study.run import check_study


def planned_study(study: Study, out: Path) -> dict[str, Any]:
    """The cells, how many of them are done, the trainings and audits that are left, and their seconds here,
    one after the other: as plain trainings, of which a sample of each data's texts is timed.

    Raises:
        ConfigError, DataError, ModelError: what the study would be refused for.
    """
    check_study(study)
    done, waiting = parted_cells(study, out)
    work = [cells[0] for cells in waiting.values()]
    timed = cache(_pass)
    seconds, audits = 0.0, audits_of(study, work, out)
    for cell in work:
        training = study.training(cell.method, seed=cell.seed)
        one = timed(study.data[cell.data]["train"], training.backbone, training.tokens, training.layers)
        seconds += one * cell.fraction * TRAINING_PASSES * training.epochs
    for cell in audits:
        config, training = study.auditing(seed=cell.seed), study.training(study.baseline, seed=cell.seed)
        train, votes = study.data[cell.data]["train"], config.votes
        if votes.voters:
            each = [timed(train, name, votes.tokens, None) for name in votes.voters if name != COLUMNS]
            one = sum(each)
        elif votes.method == "full":
            one = timed(train, training.backbone, training.tokens, training.layers)
            one *= passes(config, training)
        else:
            one = timed(train, votes.backbone, votes.tokens, None)
        seconds += one * cell.fraction
    return {
        "cells": [str(cell) for cell in study.cells],
        "done": len(done),
        "trainings": len(work),
        "audits": len(audits),
        "seconds": round(seconds),
        "writes": [f"{out}/{name}" for name in ("cells", "study.json", "table.md", "gains.png")],
    }


def study_plan_lines(plan: dict[str, Any]) -> list[str]:
    """The plan in words."""
    left = f"{plan['trainings']} trainings and {plan['audits']} audits are left"
    return [
        *plan["cells"],
        f"{len(plan['cells'])} cells, of which {plan['done']} are done; {left}: about {plan['seconds']:,} s "
        "here, one after the other. MetaRM, contrastive terms and second passes take more.",
        f"Would write {', '.join(plan['writes'])}.",
    ]


def _pass(train: str, backbone: str, tokens: TokenConfig, layers: int | None) -> float:
    """Seconds of a forward pass over all pairs of the data."""
    pairs = read_pairs(train)
    found = planned(pairs, of=train, model=backbone, tokens=tokens, passes=1.0, writes=(), layers=layers)
    return float(found["seconds"])
