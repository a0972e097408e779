"""The run code, which the entry points call: options, detectors, testing, training, predicting, reading finished runs.

It imports the rooms below: data, datasets, models, page and utils. A new method is an entry in `detectors.py`, a new
option a field in one of the files of options.
"""
