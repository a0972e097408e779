"""The registry: which data sets there are, their published sizes, and what their classes are called."""

import json
import re

import pytest

from datasets.registry import PROJECT, REGISTRY, canonical_name, get_spec
from utils.errors import UserError

PUBLISHED = {  # classes, normal and anomalous test images; domain
    "mvtec": (15, 467, 1258, "industrial"),
    "visa": (12, 962, 1200, "industrial"),
    "mpdd": (6, 176, 282, "industrial"),
    "btad": (3, 451, 290, "industrial"),
    "brain": (1, 640, 3075, "medical"),
    "liver": (1, 833, 660, "medical"),
    "retina": (1, 1041, 764, "medical"),
    "colondb": (1, 0, 380, "medical"),
    "cvc_clinicdb": (1, 0, 612, "medical"),
    "cvc300": (1, 0, 60, "medical"),
    "kvasir": (1, 0, 1000, "medical"),
    "isic": (1, 0, 379, "medical"),
    "headct": (1, 100, 100, "medical"),
    "brainmri": (1, 98, 155, "medical"),
    "dtd_synthetic": (12, 357, 947, "industrial"),
    "rsdd": (1, 387, 387, "industrial"),
    "mtd": (1, 952, 392, "industrial"),
    "goodsad": (6, 1328, 1660, "industrial"),
    "vad": (1, 1000, 1000, "industrial"),
    "br35h": (1, 1500, 1500, "medical"),
    "endotect": (1, 0, 200, "medical"),
}
AS_WE_KNOW_IT = {  # the same, where no source was at hand
    "mvtec_loco": (5, 575, 993, "industrial"),
    "mvtec_3d": (10, 249, 948, "industrial"),
    "dagm": (10, 6996, 1054, "industrial"),
    "ksdd": (1, 347, 52, "industrial"),
    "ksdd2": (1, 894, 110, "industrial"),
    "tn3k": (1, 0, 614, "medical"),
}
DESCRIBED = """
mvtec bottle = dark bottle
mvtec cable = top view of three cables
mvtec capsule = black and orange capsule
mvtec carpet = gray carpet
mvtec grid = metal or plastic mesh
mvtec hazelnut = single brown hazelnut
mvtec leather = brown leather
mvtec metal_nut = metal nut which has four notched edges
mvtec pill = oval white pill with small red speckles and the letters 'FF' engraved
mvtec screw = screw
mvtec tile = speckled tile surface
mvtec transistor = a three-legged transistor placed vertically
mvtec toothbrush = toothbrush head
mvtec wood = wood surface
mvtec zipper = a black zipper
visa candle = candle
visa capsules = capsules
visa cashew = cashew nut
visa chewinggum = chewing gum
visa fryum = wheel-shaped fryum snack
visa macaroni1 = orange macaroni
visa macaroni2 = scattered yellow macaroni
visa pcb1 = dual ultrasonic distance sensor pcb module
visa pcb2 = integrated circuits board
visa pcb3 = infrared sensor pcb module
visa pcb4 = battery charging pcb module
visa pipe_fryum = pipe-shaped fryum
mpdd connector = metal clamps with black adjustment knobs
mpdd tubes = scattered metal objects
mpdd metal_plate = blue rectangular metal plate with a notch on one side
mpdd bracket_white = white, elongated triangular metal bracket with a smooth, matte finish
mpdd bracket_brown = brown L-shaped metal bracket with smooth, glossy finish and multiple mounting holes along its arms
mpdd bracket_black = black ornamental metal bracket with spiral design attached to a rectangular frame
btad 01 = Bright concentric rings in neon yellow and blue tones against a dark blue background, \
resembling a stylized wave or energy field radiating outward.
btad 02 = vertical fabric lines in warm, dusty pink and beige tones
btad 03 = oval concentric circular rings in gradient shades of blue and white
brain brain = scan
liver liver = scan
retina retina = scan
colondb colondb = colon endoscopy image
cvc_clinicdb cvc_clinicdb = colon endoscopy image
cvc300 cvc300 = colon endoscopy image
kvasir kvasir = colon endoscopy image
"""
ORDINARY = {
    "isic": "skin",
    "headct": "head ct",
    "brainmri": "brain ct",
    "cvc_clinicdb": "colon",
    "colondb": "colon",
    "cvc300": "colon",
    "kvasir": "colon",
}
OWN = {  # of data sets that neither system was tested on
    "dagm": "textured surface",
    "ksdd": "electrical commutators",
    "ksdd2": "metal",
    "rsdd": "rail",
    "mtd": "magnetic tile",
    "vad": "industrial part",
    "br35h": "brain",
    "endotect": "colon",
    "tn3k": "thyroid",
}


def described_rows():
    for line in DESCRIBED.strip().splitlines():
        names, phrase = line.split(" = ")
        yield *names.split(), phrase


def test_sizes_and_domains_are_the_published_ones():
    for verified, known in ((True, PUBLISHED), (False, AS_WE_KNOW_IT)):
        specs = [spec for spec in REGISTRY.values() if spec.published and spec.published.verified == verified]
        assert {spec.name: (*spec.published.counts[:3], spec.domain) for spec in specs} == known


@pytest.mark.parametrize(("dataset", "class_name", "phrase"), list(described_rows()))
def test_described_phrases_are_dp_clips(dataset, class_name, phrase):
    assert get_spec(dataset).phrase(class_name, described=True) == phrase


@pytest.mark.parametrize("dataset", ["mvtec", "visa", "mpdd", "btad"])
def test_every_published_class_has_a_described_phrase_and_no_other(dataset):
    classes = {class_name for name, class_name, _ in described_rows() if name == dataset}
    assert get_spec(dataset).described.keys() == classes
    assert len(classes) == get_spec(dataset).published.classes


def test_a_class_without_a_described_phrase_goes_by_its_ordinary_one():
    assert get_spec("isic").phrase("isic", described=True) == "skin"
    assert get_spec("headct").phrase("headct", described=True) == "head ct"
    assert get_spec("folder").phrase("bolt", described=True) == "bolt"
    assert get_spec("mvtec").phrase("bolt", described=True) == "bolt"


@pytest.mark.parametrize("name", REGISTRY)
def test_ordinary_phrases_are_clip_ads(name):
    assert get_spec(name).phrase(name) == (ORDINARY | OWN).get(name, name.replace("_", " "))


@pytest.mark.parametrize(
    ("name", "class_name", "phrase"),
    [
        ("real_iad", "bottle_cap", "bottle cap"),
        ("real_iad", "mint", "mint"),
        ("dtd_synthetic", "Woven_127", "woven texture"),
        ("mvtec_3d", "cable_gland", "cable gland"),
        ("goodsad", "cigarette_box", "cigarette box"),
        ("mvtec_loco", "pushpins", "pushpins"),
        ("mvtec_ad2", "fruit_jelly", "fruit jelly"),
    ],
)
def test_further_classes_go_by_words(name, class_name, phrase):
    assert get_spec(name).phrase(class_name) == phrase


def test_ordinary_phrases_are_not_described():
    for dataset, class_name, _ in described_rows():
        assert get_spec(dataset).phrase(class_name) == ORDINARY.get(dataset, class_name)


def test_a_data_set_whose_classes_are_called_alike_has_one_phrase_whatever_a_list_calls_them():
    assert get_spec("brain").phrase("Brain", described=True) == "scan"
    assert get_spec("kvasir").phrase("polyp", described=True) == "colon endoscopy image"
    assert get_spec("isic").phrase("nevus") == "skin"


@pytest.mark.parametrize(
    ("called", "name"),
    [(name, name) for name in REGISTRY]
    + [
        ("MVTec", "mvtec"),
        ("VisA", "visa"),
        ("MPDD", "mpdd"),
        ("BTAD", "btad"),
        ("Brain", "brain"),
        ("Liver", "liver"),
        ("Retina", "retina"),
        ("ColonDB", "colondb"),
        ("ClinicDB", "cvc_clinicdb"),
        ("CVC300", "cvc300"),
        ("Kvasir", "kvasir"),
    ],
)
def test_names_of_both_systems_are_known(called, name):
    assert canonical_name(called) == name
    assert get_spec(called) is REGISTRY[name]


@pytest.mark.parametrize("name", ["", "none", "mvtec ", "imagenet"])
def test_an_unknown_name_is_refused(name):
    assert canonical_name(name) == name
    with pytest.raises(UserError, match=r"unknown data set .*; known are mvtec, visa, "):
        get_spec(name)


def test_the_page_of_data_sets_has_each_with_its_protocols_and_counts():
    page = (PROJECT / "docs" / "data.md").read_text(encoding="utf-8")
    rows = {
        name: line
        for line in page.splitlines()
        for name in re.findall(r"`(\w+)`", line.split(" | ")[0])
        if line.startswith("| `")
    }
    assert rows.keys() == REGISTRY.keys() - {"demo"}
    for name in rows:
        spec = get_spec(name)
        for published in filter(None, (spec.published, *spec.others.values())):
            assert f"{published.normal} / {published.anomalous}" in rows[name]
            assert published.verified == ("as we know it" not in rows[name])
        for protocol in spec.protocols:
            assert f"`{protocol}`" in rows[name]


def test_the_page_of_data_sets_has_the_digests_of_the_known_archives():
    page = (PROJECT / "docs" / "data.md").read_text(encoding="utf-8")
    archives = json.loads((PROJECT / "datasets" / "archives.json").read_text())
    assert re.findall(r"^\| (.*), `(.*)` \| `([0-9a-f]{64})` \|$", page, re.MULTILINE) == [
        (name, file, digest) for digest, (name, file) in archives.items()
    ]
