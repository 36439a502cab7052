"""Gaps and what is known about the pairs -> named results with intervals; the models' work is done before.

facts      what an evaluation needs to know of the pairs: prompts, lengths, sources, grades
results    the named results, ready for results.json
evaluate   one model on one set of pairs
compare    two models on the same pairs
tables     the results for a terminal
"""
