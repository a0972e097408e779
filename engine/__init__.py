"""The run code: options, building a detector, testing, training, predicting, and reading finished runs.

It imports the rooms below (data, datasets, models, page, utils) and is imported by the entry points alone. A new method
has its entry in `detectors.py`; what is written to the disk for pictures and tables is not decided here.
"""
