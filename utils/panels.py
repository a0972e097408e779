"""Pictures of an image, its map and the ground truth side by side, with titles, and many of them on one sheet."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.pictures import ColourScale, draw_contour, fitted, fitted_to, overlay

GAP = 6  # white pixels between pictures
TEXT_HEIGHT = 24
SHEET_COLUMNS = 4  # images of a class on the contact sheet
PANEL_WIDTH = 480  # pixels, on the contact sheet
SHEET_SIDE = (PANEL_WIDTH - 2 * GAP) // 3  # pixels at most, the height of a picture on it
PANEL_TITLES = ("picture", "map", "truth")
BAR_WIDTH = 160  # pixels, of the colours
COLOURS = ("a map's colours go from the median of its class's scores", "to the highest of them")


def panel(image: np.ndarray, scores: np.ndarray, mask: np.ndarray | None, scale: ColourScale) -> np.ndarray:
    """Set an image, uint8 RGB [H, W, 3], its overlay and, with a mask, bool, the ground truth side by side, titled.

    Map and mask may be larger, as of an image that is shown smaller; a pixel is anomalous where a part of it is.
    """
    scores = fitted_to(image, scores)
    gap = np.full((len(image), GAP, 3), 255, np.uint8)
    pictures = [image, gap, overlay(image, scores, scale)]
    if mask is not None:
        pictures += [gap, draw_contour(image, fitted_to(image, mask.astype(np.float32)) > 0)]
    side_by_side = np.hstack(pictures)
    width = side_by_side.shape[1]
    return np.concatenate([text_line(width, _titles(width, 2 + (mask is not None))), side_by_side])


def contact_sheet(pictures: Iterable[tuple[np.ndarray, str]]) -> np.ndarray:
    """Set `titled` panels, smaller and each with its caption, on a white sheet, below their titles and a legend."""
    cells, widest = [], (0, 0)
    for picture, caption in pictures:
        whole = picture[2 * TEXT_HEIGHT :]
        (height, width), longest = whole.shape[:2], max(whole.shape)
        small = fitted(whole, min(SHEET_SIDE * longest // height, PANEL_WIDTH * longest // width))
        cells.append(titled(small, caption, PANEL_WIDTH))
        second = (width + GAP) // 3  # where the second of three pictures would begin, behind a gap
        widest = max(widest, (small.shape[1], 3 if (whole[:, second - GAP : second] == 255).all() else 2))
    rows = [cells[start : start + SHEET_COLUMNS] for start in range(0, len(cells), SHEET_COLUMNS)]
    sheet_width = SHEET_COLUMNS * (GAP + PANEL_WIDTH) + GAP
    lefts = range(GAP, sheet_width - GAP, GAP + PANEL_WIDTH)
    titles = {left: title for start in lefts for left, title in _titles(*widest, start).items()}
    lines = [_colour_legend(sheet_width), text_line(sheet_width, titles)]
    for row in rows:
        line = np.full((GAP + max(map(len, row)), sheet_width, 3), 255, np.uint8)
        for left, cell in zip(lefts, row, strict=False):
            line[GAP : GAP + len(cell), left : left + PANEL_WIDTH] = cell
        lines.append(line)
    return np.pad(np.concatenate(lines), ((0, GAP), (0, 0), (0, 0)), constant_values=255)


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


def _titles(width: int, count: int, left: int = 0) -> dict[int, str]:
    """Give the titles of so many pictures side by side in a panel of this width, by the pixels that they begin at."""
    return {left + 2 + i * (width + GAP) // count: title for i, title in enumerate(PANEL_TITLES[:count])}


def _colour_legend(width: int) -> np.ndarray:
    """Draw a line of text that says what the colours of maps mean."""
    first, second = COLOURS
    left = math.ceil(ImageFont.load_default(size=16).getlength(first)) + 2 * GAP
    line = text_line(width, {GAP: first, left + BAR_WIDTH + GAP: second}).copy()
    bar = np.tile(np.linspace(0, 1, BAR_WIDTH), (TEXT_HEIGHT - 2 * GAP, 1))
    line[GAP:-GAP, left : left + BAR_WIDTH] = overlay(np.full((*bar.shape, 3), 128, np.uint8), bar, ColourScale(0, 1))
    return line
