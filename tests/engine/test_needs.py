"""What runs are estimated to take, against what they are measured to take."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from datasets.loader import Batch
from datasets.meta import Entry
from engine.evaluation import evaluate
from engine.needs import Dimensions, dimensions_of
from engine.tokens import TokenCache, encode_patch_tokens
from models.backbone import Backbone, load_backbone
from models.fidelity import Fidelity
from models.memory import remember
from models.presets import PRESETS, Preset
from models.sdp import SDP, adapters_for
from tests import tiny_clip
from tests.forked import run_forked
from utils.evaluation_types import Prediction, Writer
from utils.runtime import Stopwatch, peak_memory_mib

FACTOR = 1.5  # an estimate is no more than this many times too high or too low
RELEASED = Fidelity.named("released")
CPU = torch.device("cpu")


def dimensions(backbone: Backbone) -> Dimensions:
    weights = str(backbone.weights.path)
    return dimensions_of(backbone.name, weights, backbone.image_size, backbone.features_list)


def load(model: str, pretrained: str, like: Backbone | Preset) -> Backbone:
    sizes = {"image_size": like.image_size, "features_list": like.features_list}
    return load_backbone(model=model, pretrained=pretrained, **sizes, fidelity=RELEASED, device=CPU)


@pytest.fixture(scope="module")
def demo() -> Backbone:
    return load(PRESETS["demo"].model, PRESETS["demo"].pretrained, PRESETS["demo"])


def with_quick_gelu(backbone: Backbone, path: Path) -> Backbone:
    """The same backbone by a config, written to `path`, that says QuickGELU."""
    config = json.loads(Path(backbone.name).read_text()) | {"quick_gelu": True}
    path.write_text(json.dumps(config))
    return load(str(path), str(backbone.weights.path), backbone)


def allocated_at_once(run) -> int:
    """The most that PyTorch holds, of what is allocated within `run`, in bytes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = run()
    del kept
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


@pytest.mark.parametrize(
    "model, pretrained, quick_gelu",
    [("ViT-L-14-336", "openai", True), ("ViT-L-14", "laion2b_s32b_b82k", False), ("ViT-L-14", "none", False)],
)
def test_the_activation_is_that_of_the_weights(model, pretrained, quick_gelu):
    assert dimensions_of(model, pretrained, None, None).quick_gelu is quick_gelu


@pytest.mark.parametrize("name", ["backbone", "demo"])
def test_dimensions_are_the_loaded_models(name, request):
    backbone = request.getfixturevalue(name)
    found = dimensions(backbone)
    held = sum(value.numel() * value.element_size() for value in backbone.clip.parameters())
    assert found.weights == held
    assert found.patches == backbone.grid**2
    assert found.taps == len(backbone.features_list)


def test_dimensions_left_open_are_the_models_own(backbone):
    assert dimensions_of(backbone.name, str(backbone.weights.path), None, None) == dimensions(backbone)


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("method", ["SDP", "SDP+"])
@pytest.mark.parametrize("name", ["backbone", "demo"])
def test_activations_are_as_many_as_measured(name, method, batch_size, quick_gelu, request, tmp_path):
    backbone = request.getfixturevalue(name)
    if quick_gelu:
        backbone = with_quick_gelu(backbone, tmp_path / "quick.json")
    text = {"nut": torch.ones(backbone.clip.visual.output_dim, 2)}
    detector = SDP(backbone, text, RELEASED, 2.0, adapters_for(backbone) if method == "SDP+" else None)
    size = backbone.image_size

    def predict() -> Prediction:
        return detector.predict(torch.zeros(batch_size, 3, size, size), ["nut"] * batch_size)

    estimate = dimensions(backbone).activations(batch_size)
    assert 1 / FACTOR < allocated_at_once(predict) / estimate < FACTOR


@pytest.mark.parametrize("images", [2, 300])
def test_a_memory_of_normal_images_takes_what_it_holds(backbone, images):
    detector = SDP(backbone, {"nut": torch.ones(64, 2)}, RELEASED, 2.0)
    ((*taps,),) = remember(detector, torch.zeros(1, 3, 96, 96), ["nut"], of=images)
    assert dimensions(backbone).memory(images) == images * sum(tap.nbytes for tap in taps)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> dict[str, str | None]:
    """What `load_backbone` takes of a model of 180 MiB, beside which little is loaded; its weights are zeros."""
    folder = tmp_path_factory.mktemp("large")
    config = tiny_clip.config()
    config["vision_cfg"] |= {"width": 768, "layers": 4}
    config["text_cfg"]["width"] = 256
    (folder / "large.json").write_text(json.dumps(config))
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in open_clip.CLIP(**config).state_dict().items()}
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    save_file(state, folder / "float.safetensors")
    torch.save(state, folder / "float.pt")
    torch.save({key: value.half() for key, value in state.items()}, folder / "half.pt")
    return {"model": str(folder / "large.json"), "image_size": None, "features_list": None}


@pytest.mark.parametrize("name", ["float.safetensors", "float.pt", "half.pt"])
def test_a_process_grows_by_little_more_than_its_weights(large, name):
    """By no second copy of them, at any time."""
    settings = large | {"pretrained": str(Path(large["model"]).with_name(name))}
    estimate = dimensions_of(**settings).weights / (1 << 20)

    def load() -> None:
        before = peak_memory_mib(CPU)["host"]
        load_backbone(**settings, fidelity=RELEASED, device=CPU)
        print(peak_memory_mib(CPU)["host"] - before)

    codes, output = run_forked(load)
    assert codes == [0]
    assert estimate > 150
    assert float(output.splitlines()[-1]) / estimate < 1.3


def test_maps_take_what_is_measured():
    of = Dimensions(1, 1, 1, 1, image_size=128, taps=1, quick_gelu=False)
    images, batch_size = 48, 4
    entries = [Entry(f"{i}.png", f"{i}.png" * (i % 2), "nut", "", i % 2) for i in range(images)]
    masks = torch.zeros(batch_size, 128, 128, dtype=torch.bool)
    masks[1::2, 30:60, 30:60] = True

    class Noise:
        def predict(self, images, class_names):
            return Prediction(torch.rand(len(images), 128, 128), torch.rand(len(images)))

        def image_scores(self, text_prob, map_max, map_min):
            return text_prob + map_max

    class Held(Writer):
        needs_maps = True

        def class_maps(self, maps, scores):
            held.append(maps.maps.nbytes + maps.masks.nbytes)

    held = []
    loader = [
        Batch(
            images=torch.zeros(batch_size, 3, 128, 128),
            masks=masks,
            has_mask=torch.ones(batch_size, dtype=torch.bool),
            indices=torch.arange(start, start + batch_size),
        )
        for start in range(0, images, batch_size)
    ]
    keywords = {"device": torch.device("cpu"), "stopwatch": Stopwatch()}
    evaluate(Noise(), loader, entries, writers=[Held()], **keywords)
    assert held == [of.maps(images)]

    tracemalloc.start()
    try:
        evaluate(Noise(), loader, entries, **keywords)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 1 / FACTOR < peak / of.maps(images) < FACTOR


def test_cached_tokens_take_what_is_on_the_disk(backbone, tmp_path):
    cache = TokenCache(tmp_path, backbone, RELEASED, "fp16")
    for i, tokens in enumerate(encode_patch_tokens(backbone, tiny_clip.images(3), RELEASED)):
        cache.write(str(i), tokens)
    on_disk = sum(file.stat().st_size for file in cache.folder.iterdir())
    estimate = dimensions(backbone).tokens(3)
    assert estimate == 3 * cache.image_bytes
    assert on_disk == pytest.approx(estimate, rel=0.01)


def test_read_ahead_batches_are_those_of_the_loader():
    of = Dimensions(1, 1, 1, 1, image_size=16, taps=1, quick_gelu=False)
    images, masks = torch.zeros(8, 3, 16, 16, dtype=torch.uint8), torch.zeros(8, 16, 16, dtype=torch.bool)
    one = images.nbytes + masks.nbytes
    prefetched = torch.utils.data.DataLoader(range(8), num_workers=2).prefetch_factor
    assert of.read_ahead(8, 2) == (2 * prefetched + 1) * one
    assert of.read_ahead(8, 0) == one
