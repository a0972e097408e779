"""The training's record: a CSV of every step and a picture of its curves."""

import csv
from pathlib import Path

from PIL import Image, ImageDraw

from utils.files import atomic_open

Row = dict[str, float | str]

WIDTH, HEIGHT, MARGIN = 720, 300, 44
LOSS_COLOUR, PIXEL_COLOUR, IMAGE_COLOUR = (120, 120, 120), (200, 60, 30), (20, 90, 180)
SMOOTHING = 0.05  # weight of a new step in the running mean that is drawn of the loss


def write_record(rows: list[Row], folder: Path) -> None:
    """Write `loss.csv` and `loss.png` into `folder`.

    Args:
        rows: one a step, with "step", "seconds", the losses, and "pixel_auroc" and "image_auroc", which are ""
            where the model was not validated.
    """
    with atomic_open(folder / "loss.csv", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    with atomic_open(folder / "loss.png", "wb") as file:
        _draw(rows).save(file, "PNG")


def _draw(rows: list[Row]) -> Image.Image:
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    last = float(rows[-1]["step"])
    low, high = MARGIN, HEIGHT - MARGIN

    def curve(points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        """A line through (step, share of the height)."""
        span = WIDTH - 2 * MARGIN
        places = [(MARGIN + span * step / last, high - (high - low) * min(1, max(0, y))) for step, y in points]
        draw.line(places, fill=colour, width=2)

    draw.rectangle((MARGIN, low, WIDTH - MARGIN, high), outline="black")
    for tenth in range(5, 11):
        y = high - (high - low) * (tenth - 5) / 5
        draw.line((MARGIN - 4, y, MARGIN, y), fill="black")
        draw.text((10, y - 6), f"{tenth / 10:.1f}", fill="black")
    top = float(rows[0]["patch"])
    mean, smooth = top, []
    for row in rows:
        mean += SMOOTHING * (float(row["patch"]) - mean)
        smooth.append((float(row["step"]), mean / top))
    curve(smooth, LOSS_COLOUR)
    for key, colour in (("pixel_auroc", PIXEL_COLOUR), ("image_auroc", IMAGE_COLOUR)):
        curve([(float(row["step"]), 2 * float(row[key]) - 1) for row in rows if row[key] != ""], colour)
    for x, text, colour in (
        (MARGIN, "pixel AUROC", PIXEL_COLOUR),
        (170, "image AUROC", IMAGE_COLOUR),
        (300, f"patch loss, from {top:.2f} to {mean:.2f} (0 at the bottom)", LOSS_COLOUR),
    ):
        draw.text((x, 16), text, fill=colour)
    draw.text((WIDTH - 150, HEIGHT - 24), f"{last:.0f} steps", fill="black")
    return picture
