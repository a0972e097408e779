"""Pictures of anomaly maps: one colour scale for a whole class, overlays, ground-truth contours, and their files."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.background import free_cores
from utils.evaluation_types import ClassMaps, ClassResult, ImageMap, Sample, Writer
from utils.files import atomic_open, fits

logger = logging.getLogger(__name__)

MAX_OPACITY = 0.75  # of the highest score: what is below can still be made out
RAMP_START = 135  # the part of the Turbo colour map used, from green over yellow and red to dark red
GAP = 6  # white pixels between pictures
TEXT_HEIGHT = 24
SHEET_COLUMNS = 4  # images of a class on the contact sheet
# Of photographs as small as by zlib's default level, and seven times as fast; older versions choose the filter.
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
PANEL_WIDTH = 480  # pixels, on the contact sheet
SHEET_SIDE = (PANEL_WIDTH - 2 * GAP) // 3  # pixels at most, the height of a picture on it
PANEL_TITLES = ("picture", "map", "truth")
BAR_WIDTH = 160  # pixels, of the colours
COLOURS = ("a map's colours go from the median of its class's scores", "to the highest of them")


@dataclass(frozen=True)
class ColourScale:
    """The scores that the colours begin (invisible) and end (darkest red) at, the same for all images."""

    low: float  # scores up to this leave the image as it is
    high: float  # scores from this on have the last colour; with `high <= low` nothing is coloured


def class_scale(maps: Sequence[np.ndarray]) -> ColourScale:
    """Make the colour scale of a class from all its maps, n of [H, W], together, at least one and all finite.

    From the median image's median score, which is what a normal pixel scores, as most pixels are normal in anomalous
    images too, to the greatest score of all, which lies in a defect if there is one: a normal image stays as it is. In
    a class without any defect the maximum is red, too: for such images, or a single one, make a `ColourScale`
    from reference values.
    """
    limits = [(scores.min(), scores.max()) for scores in maps]  # which pass NaN on
    if not limits or not np.isfinite(limits).all():
        raise ValueError("a colour scale needs maps, and all their scores finite")
    medians = [np.median(scores) for scores in maps]  # one by one, to need no second copy of the maps
    return ColourScale(float(np.median(medians)), float(np.max(limits)))


def overlay(image: np.ndarray, scores: np.ndarray, scale: ColourScale) -> np.ndarray:
    """Lay a map [H, W] over its image, uint8 RGB [H, W, 3], the more opaque the higher the score."""
    colours, opacity = ramp(levels(scores, scale))
    weight = opacity.astype(np.float32, copy=False)
    return cv2.blendLinear(image, colours, 1 - weight, weight)


def levels(scores: np.ndarray, scale: ColourScale) -> np.ndarray:
    """Place scores on the scale, from 0 to 1; all 0 on a scale that colours nothing."""
    if scale.high <= scale.low:
        return np.zeros(scores.shape)
    return np.clip((scores - scale.low) / (scale.high - scale.low), 0, 1)


def ramp(level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the colour of each level [H, W] in [0, 1], uint8 RGB [H, W, 3], and how opaque it is, float [H, W, 1]."""
    index = cv2.convertScaleAbs(level, alpha=255 - RAMP_START, beta=RAMP_START)
    colours = cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return colours, MAX_OPACITY * (level**2 * (3 - 2 * level))[..., None]  # smoothstep: flat near the median


def draw_contour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw the outlines of a mask, bool [H, W], on a copy of an image, uint8 RGB [H, W, 3].

    A white line over the mask's outermost pixels, with a black edge, is seen on any ground.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = np.array(image, order="C")
    width = 1 + 2 * (max(mask.shape) // 512)  # odd: as far to either side of the outline
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), width + 2)
    return cv2.drawContours(drawn, contours, -1, (255, 255, 255), width)


def panel(image: np.ndarray, scores: np.ndarray, mask: np.ndarray | None, scale: ColourScale) -> np.ndarray:
    """Set an image, uint8 RGB [H, W, 3], its overlay and, with a mask, bool, the ground truth side by side.

    Map and mask may be larger, as of an image that is shown smaller; a pixel is anomalous where a part of it is.
    """
    scores = fitted_to(image, scores)
    gap = np.full((len(image), GAP, 3), 255, np.uint8)
    pictures = [image, gap, overlay(image, scores, scale)]
    if mask is not None:
        pictures += [gap, draw_contour(image, fitted_to(image, mask.astype(np.float32)) > 0)]
    return np.hstack(pictures)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = SHEET_COLUMNS, width: int = PANEL_WIDTH) -> np.ndarray:
    """Set pictures, uint8 RGB [h, w, 3] no wider than `width`, on one white sheet, row by row."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    heights = [GAP + max(map(len, row)) for row in rows]
    sheet = np.full((sum(heights) + GAP, columns * (GAP + width) + GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = sum(heights[: number // columns]) + GAP, number % columns * (GAP + width) + GAP
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def fitted_to(image: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Resize scores, float32 [h, w], to an image's height and width: by areas where they shrink, else bilinear."""
    method = cv2.INTER_AREA if scores.size > image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(scores, image.shape[1::-1], interpolation=method)


def fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """Scale a picture down to `side` pixels along its longest side, its aspect kept; a smaller one stays as it is."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return picture
    size = tuple(max(1, round(length * side / longest)) for length in (width, height))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def text_line(width: int, texts: Mapping[int, str]) -> np.ndarray:
    """Draw a white line, uint8 RGB [TEXT_HEIGHT, width, 3], with texts that begin at these pixels."""
    line, font = Image.new("RGB", (width, TEXT_HEIGHT), "white"), ImageFont.load_default(size=16)
    for left, text in texts.items():
        ImageDraw.Draw(line).text((left, TEXT_HEIGHT / 2), text, fill=(0, 0, 0), font=font, anchor="lm")
    return np.asarray(line)


def titled(picture: np.ndarray, text: str, width: int = 0) -> np.ndarray:
    """Set a picture, continued in white to `width`, below a line of text, which is cut off where they end.

    If it ends in three spaces and a name, the name loses its beginning instead, as its end tells files apart.
    """
    width = max(width, picture.shape[1])
    picture = np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
    length, (before, gap, name) = ImageFont.load_default(size=16).getlength, text.rpartition("   ")
    shorter = (f"{before}{gap}...{name[start:]}" for start in range(1, len(name))) if gap else ()
    line = next((line for line in (text, *shorter) if 2 + length(line) <= width), text)
    return np.concatenate([text_line(width, {2: line}), picture])


def panel_titles(width: int, count: int, left: int = 0) -> dict[int, str]:
    """Give the titles of so many pictures side by side on a panel of this width, by the pixels that they begin at."""
    return {left + 2 + i * (width + GAP) // count: title for i, title in enumerate(PANEL_TITLES[:count])}


def pictures_on(panel: np.ndarray) -> int:
    """Count the pictures that `panel` set side by side: three if a gap ends where the second of three begins."""
    second = (panel.shape[1] + GAP) // 3
    return 3 if (panel[:, second - GAP : second] == 255).all() else 2


def colour_legend(width: int) -> np.ndarray:
    """Draw a line of text that says what the colours of maps mean."""
    first, second = COLOURS
    left = math.ceil(ImageFont.load_default(size=16).getlength(first)) + 2 * GAP
    line = text_line(width, {GAP: first, left + BAR_WIDTH + GAP: second}).copy()
    bar = np.tile(np.linspace(0, 1, BAR_WIDTH), (TEXT_HEIGHT - 2 * GAP, 1))
    line[GAP:-GAP, left : left + BAR_WIDTH] = overlay(np.full((*bar.shape, 3), 128, np.uint8), bar, ColourScale(0, 1))
    return line


def save_png(path: str | Path, array: np.ndarray) -> None:
    """Write a picture ([H, W, 3] or [H, W], uint8) as PNG, atomically."""
    content = cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array, PNG)[1]
    with atomic_open(path, "wb") as file:
        file.write(content)


def save_map(path: str | Path, anomaly_map: np.ndarray) -> None:
    """Write a map [H, W] as .npy, atomically."""
    with atomic_open(path, "wb") as file:
        np.save(file, anomaly_map)


@dataclass
class ImageWriter(Writer):
    """Writes a file for every image, but for those of too long a name."""

    file: ClassVar[str]  # that of an image, {} its path

    folder: Path  # of the run
    left_out: list[Path] = field(default_factory=list, init=False)

    def path(self, image: str) -> Path:
        return self.folder / self.file.format(image)

    def takes(self, image: str) -> bool:
        """Whether the file of an image can be called so; if not, that is warned of."""
        path = self.path(image)
        if fits(path):
            return True
        logger.warning("not written, as the name is too long: %s", path)
        self.left_out.append(path)
        return False

    def is_there(self, result: ClassResult) -> bool:
        return all(path.is_file() for path in (self.path(image.image_path) for image in result.images) if fits(path))

    def restore(self, result: ClassResult, kept: Any) -> None:
        for image in result.images:
            self.takes(image.image_path)


class MapWriter(ImageWriter):
    """Writes every map as `maps/<img_path>.npy` in the run's folder."""

    file = "maps/{}.npy"
    needs_images = True

    def image(self, image: ImageMap) -> None:
        if self.takes(image.sample.img_path):
            save_map(self.path(image.sample.img_path), image.anomaly_map)


@dataclass
class ThreadedWriter(ImageWriter):
    """Writes the files of a class's images in threads, beside the prediction of the next class."""

    needs_maps = maps_in_thread = True

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(max(1, free_cores()), "files")

    def finish(self) -> str | None:
        self.pool.shutdown(cancel_futures=True)  # of a run that is stopped, what has not begun


@dataclass
class PictureWriter(ThreadedWriter):
    """Writes a picture of every image to `imgs/` in the run's folder, and some of each class on `contact_sheet.png`."""

    file = "imgs/{}.png"

    read_image: Callable[[Sample], np.ndarray]  # gives an image as the detector sees it, uint8 RGB [S, S, 3]
    captions: dict[str, str] = field(default_factory=dict)  # of the images that are on the sheet

    def class_maps(self, maps: ClassMaps, scores: np.ndarray) -> None:
        scale = class_scale(maps.maps)
        chosen = _spread([sample.anomaly for sample in maps.samples])

        def write(i: int) -> str:
            sample = maps.samples[i]
            mask = maps.masks[i] if maps.has_mask[i] else None
            label = {0: "normal", 1: "anomalous", None: "not known"}[sample.anomaly]
            caption = f"truth: {label}, score {scores[i]:.3f}   {sample.img_path}"
            picture = panel(self.read_image(sample), maps.maps[i], mask, scale)
            titles = text_line(picture.shape[1], panel_titles(picture.shape[1], 2 + (mask is not None)))
            save_png(self.path(sample.img_path), titled(np.concatenate([titles, picture]), caption))
            return caption

        taken = [i for i, sample in enumerate(maps.samples) if self.takes(sample.img_path)]
        captions = zip(taken, self.pool.map(write, taken), strict=True)
        self.captions |= {maps.samples[i].img_path: caption for i, caption in captions if i in chosen}

    def kept(self) -> dict[str, str]:
        return self.captions

    def restore(self, result: ClassResult, kept: dict[str, str]) -> None:
        super().restore(result, kept)
        self.captions |= kept

    def finish(self) -> str | None:
        super().finish()
        captions = dict(self.captions)  # of a run that is stopped, a class's may just come
        if not captions:
            return None
        path, panels = self.folder / "contact_sheet.png", []
        for image in captions:
            with Image.open(self.path(image), formats=["PNG"]) as picture:
                whole = np.asarray(picture)[2 * TEXT_HEIGHT :]
            (height, width), longest = whole.shape[:2], max(whole.shape)
            small = fitted(whole, min(SHEET_SIDE * longest // height, PANEL_WIDTH * longest // width))
            panels.append((small, pictures_on(whole)))
        captioned = zip(panels, captions.values(), strict=True)
        sheet = contact_sheet([titled(panel, caption, PANEL_WIDTH) for (panel, _), caption in captioned])
        widest, count = max((panel.shape[1], count) for panel, count in panels)
        lefts = range(GAP, sheet.shape[1] - GAP, GAP + PANEL_WIDTH)  # of the sheet's columns
        titles = {left: title for start in lefts for left, title in panel_titles(widest, count, start).items()}
        save_png(path, np.concatenate([colour_legend(sheet.shape[1]), text_line(sheet.shape[1], titles), sheet]))
        return f"a picture of every image is in {self.folder / 'imgs'}, some of them on {path}"


def _spread(labels: Sequence[int | None]) -> set[int]:
    """Choose a class's images for the contact sheet: one normal, the others spread over the rest."""
    normal = [i for i, label in enumerate(labels) if label == 0][:1]
    rest = [i for i, label in enumerate(labels) if label != 0]
    wanted = SHEET_COLUMNS - len(normal)
    return {*normal, *(rest[len(rest) * k // wanted] for k in range(wanted) if rest)}
