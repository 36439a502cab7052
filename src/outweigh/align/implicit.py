"""The reward that a policy implies: how much likelier than the reference it finds a response."""

from collections.abc import Sequence

import numpy as np

from outweigh.align.config import DPOConfig
from outweigh.data.records import Text
from outweigh.models.policy import Policy, load_policy
from outweigh.models.reward import Scorer, encoded_chunks


class ImplicitReward(Scorer):
    """beta * (log p_policy - log p_reference) of each response, in nats, over its tokens with `average`.

    Texts are rendered and cut as the policy's are; both models have one vocabulary.

    Source: Rafailov et al. 2023, arXiv:2305.18290, section 4.
    """

    def __init__(self, policy: Policy, reference: Policy, *, beta: float, average: bool = False) -> None:
        self.policy = policy
        self.reference = reference
        self.beta = beta
        self.average = average

    def score_texts(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """Implicit reward of each (prompt, response), float64 (N,)."""
        found = [np.empty(0)]
        for chunk in encoded_chunks(texts, self.policy.renderer, self.policy.tokens.max_tokens):
            ids, starts = [text.ids for text in chunk], [text.start for text in chunk]
            ratio = self.policy.score_ids(ids, starts) - self.reference.score_ids(ids, starts)
            lengths = np.array([len(text.ids) - text.start for text in chunk])
            found.append(self.beta * (ratio / lengths.clip(1) if self.average else ratio))
        return np.concatenate(found)


def implicit_reward(policy: Policy, config: DPOConfig) -> ImplicitReward:
    """What the policy, trained as configured, implies; the reference is loaded for it."""
    model = load_policy(config.reference or config.backbone, trust_remote_code=config.trust_remote_code)
    reference = Policy(model, policy.tokenizer, policy.tokens, precision=policy.precision)
    return ImplicitReward(policy, reference, beta=config.beta, average=config.averaged)
