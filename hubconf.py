"""The detectors for Python, from a clone or through PyTorch Hub.

    detector = torch.hub.load("path/to/clone", "sdp", source="local", object="metal nut")
    result = detector("photo.jpg")          # a path, a picture of Pillow, an array of NumPy, or several of them
    result.score, result.map, result.regions, result.show()
    detector.calibrate("good_ones")         # normal pictures, for result.is_anomalous and result.p_value
    detector.save("nut.safetensors")        # loaded by torch.hub.load(..., "sdp", saved="nut.safetensors")

`engine/detector.py` says what a detector takes and gives.

How this lives beside other packages: ours have names that others have as well, `datasets` being Hugging Face's. So the
clone is imported as one package, `clip_ad`, in which our `datasets` is `clip_ad.datasets`: `_Loader` compiles each of
our files with the names of our packages so prefixed, wherever they are imported, in functions too. Nothing is put into
`sys.modules` under another name, and nothing there is replaced, whichever is imported first. The folder of the clone,
which `torch.hub` puts on `sys.path` for the time of the call, is taken off it meanwhile, or packages that look for an
optional `datasets` would find ours. Results can be pickled within a process and those forked from it, and read in any
that has called `torch.hub.load` before; detectors are passed on by `save`. Errors are `clip_ad.utils.errors.UserError`.
"""

import ast
import importlib
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec
from types import CodeType
from typing import Any

# By the names that are imported.
dependencies = ["torch", "open_clip", "huggingface_hub", "safetensors", "numpy", "pydantic", "sklearn"]
dependencies += ["annotated_types", "scipy", "cv2", "PIL", "tabulate", "tqdm", "typing_extensions"]

CLONE = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
PACKAGE = "clip_ad"
ROOMS = {"data", "datasets", "demo", "engine", "models", "page", "utils"}


def sdp(object: str | None = None, **options: Any) -> Any:
    """SDP: maps and scores from a frozen CLIP alone.

    object: what is on the pictures, as in "metal nut". backbone: "vit-l-14-336" (the default, whose weights are
    downloaded when they are first needed), "vit-b-16-plus-240", "demo", or another model of open_clip. saved: a file
    that `detector.save` wrote, which brings the options of the detector. Further ones are predict.py's, such as
    smoothing=4, tile=256, device="cuda:1", precision="bf16" or prompts="medical".
    """
    return _detector("sdp", object=object, **options)


def sdp_plus(object: str | None = None, **options: Any) -> Any:
    """SDP+: SDP with trained linear adapters, from checkpoint="epoch_5.pth", which brings the options of its training.

    See `sdp` for the rest.
    """
    return _detector("sdp_plus", object=object, **options)


def dp_clip(object: str | None = None, **options: Any) -> Any:
    """DP-CLIP: a CLIP with a trained image adapter, from checkpoint="image_adapter.pth", which brings its options.

    domain="medical" changes how maps are smoothed and images scored. See `sdp` for the rest.
    """
    return _detector("dp_clip", object=object, **options)


def _detector(method: str, **options: Any) -> Any:
    package = sys.modules.get(PACKAGE)
    if package is None:
        spec = ModuleSpec(PACKAGE, None, origin=CLONE, is_package=True)
        spec.submodule_search_locations = [CLONE]
        sys.meta_path.insert(0, _Finder())
        package = sys.modules[PACKAGE] = module_from_spec(spec)
    if list(package.__path__) != [CLONE]:
        raise ImportError(f"{PACKAGE} is imported from {list(package.__path__)} already: use one clone in a process")
    path = list(sys.path)
    sys.path[:] = [entry for entry in path if os.path.realpath(entry) != CLONE]
    try:
        return importlib.import_module(f"{PACKAGE}.engine.detector").Detector(method, **options)
    finally:
        sys.path[:] = path


class _Finder(MetaPathFinder):
    """Finds the modules of the package, for `_Loader` to load."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{PACKAGE}."):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    """Compiles a file with the names of our packages prefixed, and keeps no compiled copy for other imports to find."""

    def source_to_code(self, data: bytes, path: str, *, _optimize: int = -1) -> CodeType:
        tree = ast.parse(data, path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.partition(".")[0] in ROOMS:
                node.module = f"{PACKAGE}.{node.module}"
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def path_stats(self, path: str) -> dict[str, Any]:
        raise OSError(f"no compiled copy is kept of {path}")
