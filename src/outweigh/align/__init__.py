"""From preference pairs to a policy: DPO and its kin on the one pairwise equation."""
