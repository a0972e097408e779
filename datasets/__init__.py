"""From a list of images to batches: the registry's values, `meta.json`, decoding, transforms, augmentation, loaders.

It imports utils alone. What depends on a data set's name is a value of its entry in `registry.py`.
"""
