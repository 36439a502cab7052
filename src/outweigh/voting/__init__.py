"""M reward models x pairs -> gaps (M, B): probes on features, or scores that voters gave."""
