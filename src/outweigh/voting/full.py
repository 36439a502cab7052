"""M reward models trained in every layer, as published, or given by the user: their gaps on every pair."""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from outweigh.data.pairs import PairSet
from outweigh.models.features import checkpoint_identity
from outweigh.models.reward import RewardModel
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit
from outweigh.training.items import Items, items_of, some_items, swapped_items
from outweigh.voting.scores import voters_votes
from outweigh.voting.votes import FloatArray, Votes

logger = logging.getLogger(__name__)


def full_votes(
    pairs: PairSet,
    config: TrainConfig,
    folder: Path | None,
    *,
    numbers: Sequence[int],
    fold_B: NDArray[np.int64] | None = None,
    swapped_B: NDArray[np.bool_] | None = None,
    first_gap_B: FloatArray | None = None,
) -> Votes:
    """Votes of M models that differ in seed, so in their head's first weights and the order of the pairs:
    of those with these `numbers`, counted from 0.

    Without folds every model trains on all pairs and votes on them (as published). With folds each voter is
    one model a fold, trained without it, that votes on its pairs alone. `swapped_B` marks pairs whose label
    the voters are to learn swapped. Finished voters lie in `folder`, under the hash of what they were trained
    on and how, and are taken from there the next time; without a folder none is kept. `first_gap_B` are the
    gaps of a model trained as configured already, voter 0: it may have kept a validation part from training.

    Source: Wang et al. 2024, arXiv:2401.06080, section 2.2: M = 10, same data, shuffled order.
    """
    swapped = np.zeros(len(pairs), dtype=bool) if swapped_B is None else swapped_B
    items = swapped_items(items_of(pairs), swapped)
    everything = np.arange(len(pairs))
    gap_MB = np.empty((len(numbers), len(pairs)))
    with nullcontext(folder) if folder else TemporaryDirectory() as kept:
        for place, voter in enumerate(numbers):
            if voter == 0 and first_gap_B is not None:
                gap_MB[place] = first_gap_B
                continue
            for fold in [None] if fold_B is None else np.unique(fold_B):
                votes_on = everything if fold is None else np.flatnonzero(fold_B == fold)
                trains_on = everything if fold is None else np.flatnonzero(fold_B != fold)
                model = _voter(some_items(items, trains_on), _own(config, voter), Path(kept))
                chosen, rejected = model.score_pairs(pairs.select(votes_on))
                gap_MB[place, votes_on] = np.where(swapped[votes_on], rejected - chosen, chosen - rejected)
    return Votes(gap_MB, np.full(gap_MB.shape, fold_B is not None))


def _own(config: TrainConfig, voter: int) -> TrainConfig:
    """A voter's configuration: another seed, every pair trained on, nothing published or compared."""
    private = {
        key: value for key, value in config.trainer.items() if not key.startswith(("push_to_", "hub_"))
    }
    own = replace(config, seed=config.seed + voter, trainer=private)
    return replace(own, validation=0.0, patience=None, keep="last", beside=None)


def _voter(items: Items, config: TrainConfig, folder: Path) -> RewardModel:
    """The model trained so on the items, or the one that lies in the folder already."""
    told = f"{items.key} {checkpoint_identity(config.backbone)} {asdict(config)}"
    place = folder / f"voter-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    if not (place / "model").exists():
        logger.info("A voter is trained in %s.", place)
        fit(items, config, place, resume=True, guarded=False)  # it votes from here, and is not handed out
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
    return RewardModel.load(place / "model", precision=config.precision)


def model_votes(pairs: PairSet, models: Sequence[str]) -> Votes:
    """Votes of reward models that exist, which are taken not to have been trained on the pairs."""
    gaps: list[FloatArray] = []
    for model in models:
        chosen, rejected = RewardModel.load(model).score_pairs(pairs)
        gaps.append(chosen - rejected)
    return voters_votes(np.stack(gaps))
