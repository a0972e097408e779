"""Pictures of an image, its map and the ground truth side by side, with titles, and many of them on one sheet."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.pictures import ColourScale, draw_contour, fitted_to, overlay

GAP = 6  # white pixels between pictures
TEXT_HEIGHT = 24
SHEET_COLUMNS = 4  # images of a class on the contact sheet
PANEL_WIDTH = 480  # pixels, on the contact sheet
SHEET_SIDE = (PANEL_WIDTH - 2 * GAP) // 3  # pixels at most, the height of a picture on it
PANEL_TITLES = ("picture", "map", "truth")
BAR_WIDTH = 160  # pixels, of the colours
COLOURS = ("a map's colours go from the median of its class's scores", "to the highest of them")


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
