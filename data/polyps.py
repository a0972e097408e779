"""The layout of the colon sets: a folder of frames, which all show a polyp, and a folder of masks."""

from pathlib import Path

from data.common import Found, list_images, subfolder

EXPECTED = "images/N.png and masks/N.png"


def read_frames(root: Path, name: str, images: str = "images", masks: str = "masks") -> Found:
    """Entries of all frames of class `name`, each with the mask of its stem.

    Args:
        root: the data set's folder.
        name: the class.
        images, masks: what the two folders are called.
    """
    found = Found()
    frames, truth = (list_images(subfolder(root, folder)) for folder in (images, masks))
    found.test = found.pair(root, frames, truth, name, "polyp")
    return found
