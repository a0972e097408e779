"""The demo set and the demonstration model, so that every command can be tried at once, offline and on a CPU.

`draw.py` draws the set: `render.py` makes a picture and its mask of a `scene.py`, that is one of the `surfaces.py` or
`parts.py` with `defects.py`. A new class is a function there and an entry in `render.py`. `train.py` trains the model,
of which `pool.py` has the pictures, `network.py` the captions and the start, and `training.py` losses and steps. The
weights lie in `pretrained_models/demo/`. `figure.py` sets pictures of a test side by side.

May import `datasets`, `models` and `utils`; what `draw.py` imports, not `models`.
"""
