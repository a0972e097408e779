"""The kinds of things that can be wrong with a data set: what each is called, how bad it is, and what to do."""

from dataclasses import dataclass

from utils.problems import ERROR, WARNING, Level


@dataclass(frozen=True)
class Kind:
    """One kind of problem.

    Attributes:
        text: what is concerned, in the plural.
        level: see `utils.problems`.
        remedy: what to do.
        left_out: whether the builders leave what is concerned out of their list.
    """

    text: str
    level: Level
    remedy: str
    left_out: bool = False


_RESTORE = "restore the files, or take them off the list (a meta.json that is deleted is built anew)"
_REPLACE = "get the files anew, or take them off the list"
_RENAME = "give the files plain names inside the data set's folder"
_LABEL = "find out which is right, and correct the label or the mask"

MISSING = Kind("images listed but missing", ERROR, _RESTORE, left_out=True)
UNREADABLE = Kind("unreadable images", ERROR, _REPLACE, left_out=True)
BAD_PATH = Kind("images with a path that is refused", ERROR, _RENAME, left_out=True)
MISSING_MASK = Kind("masks listed but missing", ERROR, _RESTORE, left_out=True)
UNREADABLE_MASK = Kind("unreadable masks", ERROR, _REPLACE, left_out=True)
BAD_MASK_PATH = Kind("masks with a path that is refused", ERROR, _RENAME, left_out=True)

ABSENT = Kind(
    "images listed but absent",
    WARNING,
    "get the rest of the data set, or see to it that the part is the one you want",
    left_out=True,
)
NO_LABEL = Kind("images without a label", WARNING, "add them to labels.csv", left_out=True)
NO_MASK = Kind("anomalous images without a mask", WARNING, "add the masks, or pixels are measured without them")
NO_IMAGE = Kind("masks without an image", WARNING, "add the images, or name the masks as their images")
OTHER_SIZE = Kind(
    "masks of another size than their image", WARNING, "see whether they are these images' masks, or are cropped"
)
EMPTY_MASK = Kind("empty masks of anomalous images", WARNING, _LABEL)
NORMAL_WITH_MASK = Kind("normal images whose mask is not empty", WARNING, _LABEL)
JPEG_MASK = Kind("masks in JPEG, whose noise counts as anomalous", WARNING, "draw them anew as PNG, black and white")
BOTH_SPLITS = Kind(
    "test images that are training images too", WARNING, "train on nothing that you test on, or remove one of the two"
)
TWO_LABELS = Kind("images that are there as normal and as anomalous", WARNING, "find out which is right")
TWO_CLASSES = Kind("images that are there in two classes", WARNING, "remove them from the class they do not belong to")
TWICE = Kind("test images that are there twice", WARNING, "remove one of the two, as they count twice")
ODD_SIZE = Kind("images of another size than nearly all of their class", WARNING, "see whether they belong there")
ODD_MODE = Kind(
    "images of another colour mode than nearly all of their class", WARNING, "see whether they look as the others do"
)
