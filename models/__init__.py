"""The papers, as modules and pure functions on tensors; nothing here reads the command line or prints.

SDP and SDP+ are `dual_path.py`, `sdp.py` and `anomaly_map.py`, DP-CLIP is `dp_clip.py`; what they minimise is in
`losses.py`. The frozen CLIP is `backbone.py`, its text side `text.py`. Files are read and written for weights, prompts
and cached sentences alone. It imports utils. A new method is one file here.
"""
