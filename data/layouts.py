"""The folder layouts: a short reader for each, from a folder to what is found in it, and below all of them in words."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from typing_extensions import TypedDict

from data.found import Found, Kind, list_folders, list_images, list_masks, read_csv, subfolder, top_folder
from data.marked import cut_strips, read_ksdd, read_marked
from data.patterns import read_patterns
from datasets.meta import SPLITS, Entry
from utils.errors import UserError
from utils.files import nfc
from utils.json_files import read_json


def read_mvtec(
    root: Path, normal: Collection[str] = ("good",), *, top: str = "", name: str | None = None, **how: bool
) -> Found:
    """Read the classes of a data set laid out like MVTec AD; `normal` is what folders of normal images may be called.

    That is in lower case; the folders may be in any. Others than the classes' are passed over. The data set may lie in
    its folder `top`; it is one class if that has a `name`. For `how`, see `_add_class`.
    """
    found = Found(root)
    for class_name, folder in _classes(top_folder(root, top), name).items():
        _add_class(found, folder, class_name, normal, **how)
    return found


def _is_class(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in (*SPLITS, "test_public"))


def _classes(folder: Path, name: str | None) -> dict[str, Path]:
    """Find the folder of each class, or take all for one class of this `name`."""
    if name is not None:
        return {name: folder}
    return {path.name: path for path in list_folders(folder) if _is_class(path)}


def _add_class(
    found: Found, folder: Path, name: str, normal: Collection[str], *, masks_optional: bool = False, in_3d: bool = False
) -> None:
    """Add one class laid out as MVTec's, which may lack all of `ground_truth` if masks are optional.

    MVTec LOCO has a folder of masks for each image; of MVTec AD 2 the `test_public` is read, with the masks in it. In
    MVTec 3D-AD, each kind's folder has images in `rgb` and masks in `gt`, of normal ones as well.
    """
    places = {split: folder / split for split in SPLITS}
    if not places["test"].is_dir():
        places["test"] = folder / "test_public"
    truth = folder / "ground_truth"
    truth = truth if truth.is_dir() else places["test"] / "ground_truth"
    masks_expected = in_3d or truth.is_dir() or not masks_optional
    unused = {nfc(kind.name).lower(): kind for kind in list_folders(truth)}
    for split, place in places.items():
        for kind in list_folders(place):
            images = list_images(kind / "rgb" if in_3d else kind)
            if kind.name.lower() in normal:
                found.add(split, images, name, "good", 0)
            elif split == "test" and kind != truth:
                masks = list_masks(kind / "gt" if in_3d else subfolder(truth, kind.name))
                unused.pop(nfc(kind.name).lower(), None)
                found.add_masked(images, masks, name, kind.name, masks_expected=masks_expected)
    for kind, masks in unused.items():
        if kind not in normal:
            found.add_masked([], list_masks(masks), name, kind)


def read_private(root: Path) -> Found:
    """Read the unlabelled images of MVTec AD 2, and the normal ones to validate on, as the test split."""
    found = Found(root)
    for folder in list_folders(root):
        if (folder / "test_private").is_dir():
            found.add("test", list_images(folder / "validation" / "good"), folder.name, "good", 0)
            for split in ("test_private", "test_private_mixed"):
                found.add("test", list_images(folder / split), folder.name, split, None)
    return found


def read_folder(root: Path, **patterns: str | int) -> Found:
    """Read a user's own images: one class, or several, laid out like MVTec AD, or images of which nothing is known.

    Folders of normal images may be called good, ok or normal; images directly in `test` are unlabelled. Where there are
    `patterns`, they say it all, see `read_patterns`.
    """
    if patterns:
        return read_patterns(root, **patterns)
    found, classes = Found(root), _classes(root, root.name if _is_class(root) else None)
    for class_name, folder in classes.items():
        _add_class(found, folder, class_name, ("good", "ok", "normal"), masks_optional=True)
        found.add("test", list_images(folder / "test"), class_name, "", None)
    if not classes:
        found.add("test", list_images(root), root.name, "", None)
    return found


def read_visa(root: Path, split_csv: str | None = None) -> Found:
    """Read the images that one of VisA's split files lists, in its order; default is `split_csv/1cls.csv`."""
    found, masks = Found(root), set()
    labels = {"normal": 0, "anomaly": 1}
    path = Path(split_csv) if split_csv else root / "split_csv" / "1cls.csv"
    for line, (name, split, label, image, mask) in read_csv(path, ("object", "split", "label", "image", "mask")):
        if split not in SPLITS or label not in labels:
            raise UserError(f"{path}, line {line}: '{split}, {label}' is not a split and a label")
        masks.add(mask)
        mask = mask if (root / mask).is_file() else ""
        found.add_listed(split, Entry(image, mask, name, "good" if label == "normal" else label, labels[label]))
    for name in found.meta["test"]:
        for file in map(found.path, list_masks(root / name / "Data" / "Masks" / "Anomaly")):
            if file not in masks:
                found.note(Kind.NO_IMAGE, file, name)
    return found


def read_bmad(root: Path, name: str) -> Found:
    """Read one of BMAD's data sets, of class `name`, whose lesions have masks; the validation split is not read."""

    def images(folder: Path) -> list[Path]:
        return list_images(subfolder(folder, "img")) or list_images(folder)  # `train` has them directly in it

    found = Found(root)
    for split in SPLITS:
        found.add(split, images(subfolder(subfolder(root, split), "good")), name, "good", 0)
    ungood = subfolder(subfolder(root, "test"), "Ungood")
    found.add_masked(images(ungood), list_masks(subfolder(ungood, "label")), name, "lesion")
    return found


def read_masked(
    root: Path, name: str, specie: str, images: str = "images", masks: str = "masks", top: str = ""
) -> Found:
    """Read a data set of class `name` whose images all show a `specie`, from a folder of images and one of masks."""
    found, folder = Found(root), top_folder(root, top)
    found.add_masked(list_images(subfolder(folder, images)), list_masks(subfolder(folder, masks)), name, specie)
    return found


def read_clinicdb(root: Path) -> Found:
    """Read CVC-ClinicDB in either of the two layouts that it is distributed in."""
    folders = ("Original", "Ground Truth") if subfolder(root, "Original").is_dir() else ("images", "masks")
    return read_masked(root, "cvc_clinicdb", "polyp", *folders)


def read_headct(root: Path) -> Found:
    """Read the images that HeadCT's `labels.csv` labels, in its order; image NNN.png has the id N, and no mask."""
    found = Found(root)
    path = root / "labels.csv"
    images = {image.stem.lstrip("0") or "0": image for image in list_images(root / "head_ct" / "head_ct")}
    for line, (number, label) in read_csv(path, ("id", "hemorrhage")):
        if label not in ("0", "1") or not number.isdecimal():
            raise UserError(f"{path}, line {line}: '{number}, {label}' is not a number and 0 or 1")
        image = images.pop(str(int(number)), None)
        if image is None:
            found.note(Kind.ABSENT, f"id {number}")
        else:
            found.add("test", [image], "headct", "hemorrhage" if label == "1" else "good", int(label))
    for image in images.values():
        found.note(Kind.NO_LABEL, found.path(image))
    return found


def read_sorted(root: Path, name: str, kinds: Mapping[str, str], top: str = "", masks: str | None = None) -> Found:
    """Read a data set of class `name` that is sorted into folders, each with its kind of anomaly, or "good".

    Files of the suffix `masks` are the masks of those beside them; without, there are none. The data set lies in its
    folder `top` if that is there: BrainMRI's download holds it twice, so its top level is read only if it is alone.
    """
    found = Found(root)
    for folder, kind in kinds.items():
        files = list_images(top_folder(root, top) / folder)
        images = [file for file in files if file.suffix.lower() != masks]
        if kind == "good" or masks is None:
            found.add("test", images, name, kind, int(kind != "good"))
        else:
            found.add_masked(images, [file for file in files if file not in images], name, kind)
    return found


class _Item(TypedDict):
    image_path: str
    mask_path: str | None
    anomaly_class: str


class _SplitFile(TypedDict):
    train: list[_Item]
    test: list[_Item]


def read_real_iad(root: Path, lists: str = "realiad_jsons") -> Found:
    """Read the images that Real-IAD's split files list, one file a class, at the greatest resolution that is there."""
    found = Found(root)
    sizes = {int(path.name[8:]): path for path in list_folders(root) if re.fullmatch(r"realiad_\d+", path.name)}
    for path in sorted((root / lists).glob("*.json")) if sizes else ():
        name, folder = path.stem, sizes[max(sizes)] / path.stem
        for split, items in read_json(path, _SplitFile).items():
            for item in items:
                image, kind = found.path(folder / item["image_path"]), item["anomaly_class"]
                mask = found.path(folder / item["mask_path"]) if item["mask_path"] else ""
                specie, label = ("good", 0) if kind == "OK" else (kind, 1)
                found.add_listed(split, Entry(image, mask, name, specie, label))
    return found


@dataclass(frozen=True)
class Layout:
    """How a data set lies in its folder."""

    read: Callable[..., Found]  # reads a folder, and takes the options below as keywords
    expected: str  # the layout in words
    options: Mapping[str, str] = field(default_factory=dict)  # further options of the builder, each with its help
    prepare: Callable[[Path], None] | None = None  # writes into the folder what is read, before a list is built
    by_masks: bool = False  # whether masks decide what is anomalous, so that `mask_threshold` is an option of it, too
    takes_all: bool = False  # whether every image in the folder belongs to the data set
    drawn_by: str | None = None  # the module in a room above whose `generate` draws the data set, if it is drawn


MVTEC = "CLASS/train/good/*.png, CLASS/test/{good,DEFECT}/*.png, CLASS/ground_truth/DEFECT/*_mask.png"
BTAD = "01/train/ok/*, 01/test/{ok,ko}/*, 01/ground_truth/ko/* and likewise 02, 03; images and masks .png or .bmp"
FOLDER = (
    "either images directly in it, all unlabelled, or test/{good,DEFECT}/* with train/good/* and "
    "ground_truth/DEFECT/* if you have them, directly in it or in a folder for each class; or what --normal, "
    "--anomalous and --mask say"
)
VISA = "CLASS/Data/Images/{Normal,Anomaly}/*.JPG, CLASS/Data/Masks/Anomaly/*.png and, with them, split_csv/1cls.csv"
SPLIT_CSV = {"split_csv": "another split file than split_csv/1cls.csv in the data set's folder"}
BMAD = "test/good/img/*, test/Ungood/img/*, test/Ungood/label/*, and train/good/* if it is there"
COLON = ("colondb", "cvc300", "kvasir")
POLYPS = "images/N.png and masks/N.png"
ISIC_IMAGES, ISIC_MASKS = "ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"
ISIC = f"{ISIC_IMAGES}/X.jpg and {ISIC_MASKS}/X_Segmentation.png"
LOCO = "CLASS/train/good/*.png, CLASS/test/{good,DEFECT}/*.png, CLASS/ground_truth/DEFECT/NNN/*.png"
AD2 = "CLASS/train/good/*.png, CLASS/test_public/{good,bad}/*.png, CLASS/test_public/ground_truth/bad/*_mask.png"
PRIVATE = "CLASS/test_private/*.png, CLASS/test_private_mixed/*.png, CLASS/validation/good/*.png"
MVTEC_3D = "CLASS/train/good/rgb/*.png, CLASS/test/{good,DEFECT}/rgb/*.png, CLASS/test/DEFECT/gt/*.png"
RSDD = "Metal15/test/{good,anomaly}/*.bmp, Metal15/ground_truth/anomaly/*.png"
DAGM = "Class1/{Train,Test}/*.PNG, Class1/{Train,Test}/Label/*_label.PNG of those with a defect, and the other classes"
KSDD = "kos01/Part0.jpg, kos01/Part0_label.bmp and the others"
STRIPS = f"{KSDD}, which data/build.py cuts into strips/*.png"
KSDD2 = "{train,test}/NNNNN.png with NNNNN_GT.png beside each"
MTD_DEFECTS = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
MTD = {"MT_Free/Imgs": "good"} | {f"MT_{defect}/Imgs": defect.lower() for defect in MTD_DEFECTS}
TUMOR = {"no": "good", "yes": "tumor"}
REAL_IAD = "realiad_1024/CLASS/... (or 512, 256) and {}/CLASS.json"
ENDOTECT = "EndoTect_2020_Segmentation_Test_Dataset"

LAYOUTS: Mapping[str, Layout] = {  # of each data set, by the label of its protocol
    **dict.fromkeys(("mvtec", "mpdd", "goodsad"), Layout(read_mvtec, MVTEC)),
    "demo": Layout(read_mvtec, MVTEC, takes_all=True, drawn_by="demo.draw"),
    "mvtec_loco": Layout(read_mvtec, LOCO),
    "mvtec_ad2": Layout(read_mvtec, AD2),
    "mvtec_ad2-private": Layout(read_private, PRIVATE),
    "mvtec_3d": Layout(partial(read_mvtec, in_3d=True), MVTEC_3D),
    "dtd_synthetic": Layout(partial(read_mvtec, top="DTD-Synthetic"), MVTEC),
    "rsdd": Layout(partial(read_mvtec, top="RSDD"), RSDD),
    "vad": Layout(
        partial(read_mvtec, top="vad", name="vad", masks_optional=True), "train/good/*.png, test/{good,bad}/*.png"
    ),
    "btad": Layout(partial(read_mvtec, normal=("ok",)), BTAD),
    "folder": Layout(read_folder, FOLDER, takes_all=True),
    "visa": Layout(read_visa, VISA, SPLIT_CSV),
    "real_iad": Layout(read_real_iad, REAL_IAD.format("realiad_jsons")),
    "real_iad-single-view": Layout(
        partial(read_real_iad, lists="realiad_jsons_sv"), REAL_IAD.format("realiad_jsons_sv")
    ),
    "dagm": Layout(partial(read_marked, top="DAGM_KaggleUpload"), DAGM, by_masks=True),
    "ksdd": Layout(read_ksdd, KSDD, by_masks=True),
    "ksdd-strips": Layout(partial(read_ksdd, strips=True), STRIPS, prepare=cut_strips, by_masks=True),
    "ksdd2": Layout(partial(read_marked, top="KSDD2", name="ksdd2"), KSDD2, by_masks=True),
    "mtd": Layout(partial(read_sorted, name="mtd", kinds=MTD, masks=".png"), "MT_{Free,Blowhole,...}/Imgs/*.{jpg,png}"),
    **{name: Layout(partial(read_bmad, name=name), BMAD) for name in ("brain", "liver", "retina")},
    **{name: Layout(partial(read_masked, name=name, specie="polyp"), POLYPS) for name in COLON},
    "endotect": Layout(partial(read_masked, name="endotect", specie="polyp", top=ENDOTECT), f"{ENDOTECT}: {POLYPS}"),
    "tn3k": Layout(
        partial(read_masked, name="tn3k", specie="nodule", images="test-image", masks="test-mask", top="tn3k"),
        "test-image/NNNN.jpg and test-mask/NNNN.jpg",
    ),
    "cvc_clinicdb": Layout(read_clinicdb, f"Original/N.tif and 'Ground Truth/N.tif', or {POLYPS}"),
    "isic": Layout(partial(read_masked, name="isic", specie="lesion", images=ISIC_IMAGES, masks=ISIC_MASKS), ISIC),
    "headct": Layout(read_headct, "head_ct/head_ct/000.png, ... and labels.csv with the columns id, hemorrhage"),
    "brainmri": Layout(
        partial(read_sorted, name="brainmri", kinds=TUMOR, top="brain_tumor_dataset"),
        "brain_tumor_dataset/{yes,no} with the images",
    ),
    "br35h": Layout(partial(read_sorted, name="br35h", kinds=TUMOR, top="Br35H"), "{yes,no} with the images"),
}
