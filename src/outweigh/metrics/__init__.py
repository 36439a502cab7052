"""Pure functions on rewards and labels: NumPy arrays in, numbers out; no models, no files.

Every metric is over all pairs at once, never a mean of batch means, and is None where it has no value
(a correlation with a constant, an AUROC of one class), never NaN.

    accuracy      how often the chosen response has the higher reward, and the rule "the longer one wins"
    calibration   log loss, Brier, expected calibration error, reliability, temperature
    correlation   Spearman, Kendall tau-b, Pearson
    detection     how well a score finds wrong labels: AUROC, average precision, precision and recall
    intervals     bootstrap over prompts or pairs
    paired        two models on the same pairs: difference, McNemar
"""
