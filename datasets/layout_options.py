"""The options that say how a user's own images lie; every program that takes a data set has them."""

from utils.arguments import MaskThreshold, Options, Text, option

PLACEHOLDERS = "{dir} {stem} {name} {parent} {parent2} ..."
PATTERNS = ("normal", "anomalous", "mask", "class_name")


class LayoutOptions(Options):
    """How images lie: for the data set called folder, and where a mask begins for any."""

    normal: Text | None = option("of folder: pattern of the normal images, in quotes, as 'OK/*.jpg'", metavar="PATTERN")
    anomalous: Text | None = option("of folder: pattern of the anomalous images, as 'NG/*/*.jpg'", metavar="PATTERN")
    mask: Text | None = option(f"of folder: an image's mask, as '{{dir}}/{{stem}}.png'; has {PLACEHOLDERS}")
    class_name: Text | None = option("of folder: an image's class, as '{parent}' (default: the folder's name)")
    mask_threshold: MaskThreshold | None = option("a mask is anomalous above this, of 255; default: the data set's")

    def patterns(self) -> dict[str, str | int]:
        """Select the patterns that are given, and what reading by them needs, by the names of their options."""
        given = {name: value for name in PATTERNS if (value := getattr(self, name)) is not None}
        is_other = given and self.mask_threshold is not None
        return given | ({"mask_threshold": self.mask_threshold} if is_other else {})

    def mistake(self) -> str | None:
        """Say which option would do nothing."""
        given = [*self.patterns()]
        if given and not {"normal", "anomalous"} & {*given}:
            return f"--{given[0]} goes with --normal or --anomalous"
        named = [getattr(self, name, None) or () for name in ("dataset", "train_dataset", "test_dataset")]
        if given and any(named) and not any(name == "folder" or "folder" in name for name in named):
            return f"--{given[0]} goes with the data set folder: others have a layout of their own"
        return super().mistake()
