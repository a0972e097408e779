"""The measures of anomaly detection, exact and fast; `tests/plain_measures.py` has them as plain loops over thresholds.

`ranking` has AUROC, AP and F1-max, `regions` and `pro` the per-region overlap, `class_measures` all of a class,
`bootstrap` their confidence intervals, and `curves` the points to draw. All are fractions, None where undefined.
"""
