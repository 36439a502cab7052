"""Prompts -> sampled responses, from a policy in memory or behind a server."""
