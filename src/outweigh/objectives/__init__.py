"""Pure functions of rewards and columns: the one pairwise equation, the listwise one, their sources."""
