"""Maps from files of every kind, and what is wrong with them in one sentence."""

import logging
import os
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from datasets.image_set import ImageSet
from datasets.loader import ErrorRaisingLoader, in_batches, make_loader
from datasets.meta import Entry
from datasets.registry import get_spec
from datasets.saved_maps import SavedMapDataset, find_maps, load_map, swapped_sides
from datasets.transforms import mask_transform
from utils.errors import UserError

VALUES = np.linspace(-1, 1, 35).reshape(5, 7)
RANKS = np.random.default_rng(0).permutation(35).reshape(5, 7)


def entry(path: str, mask: str = "", anomaly: int | None = 1) -> Entry:
    return Entry(path, mask, "bottle", "broken", anomaly)


def loader(entries: list[Entry], folder: Path, map_size: int | None = None, workers: int = 0) -> ErrorRaisingLoader:
    """The maps of a folder that the masks lie in, too."""
    images = ImageSet(get_spec("folder"), folder, entries)
    dataset = SavedMapDataset(images, find_maps(folder, entries), map_size)
    return make_loader(dataset, in_batches(range(len(dataset)), 1), workers)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("suffix", [".npy", ".tiff", ".tif", ".TIFF"])
def test_floating_point_maps(tmp_path, dtype, suffix):
    values = VALUES.astype(dtype)
    path = tmp_path / f"map{suffix}"
    np.save(path, values) if suffix == ".npy" else tifffile.imwrite(path, values)
    loaded = load_map(path)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, values.astype(np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".npy", ".tiff", ".png"])
def test_maps_of_8_and_16_bits_keep_their_values(tmp_path, dtype, suffix):
    values = (RANKS * (7 if dtype == "uint8" else 1800)).astype(dtype)
    path = tmp_path / f"map{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    elif suffix == ".tiff":
        tifffile.imwrite(path, values)
    else:
        Image.fromarray(values).save(path)
    np.testing.assert_array_equal(load_map(path), values)


def test_axes_of_length_1_are_dropped(tmp_path):
    np.save(tmp_path / "map.npy", VALUES[None, :, :, None])
    assert load_map(tmp_path / "map.npy").shape == VALUES.shape


def test_hidden_files_are_no_maps_and_not_warned_of(tmp_path, caplog):
    touch(tmp_path, "a.npy", "._a.npy", ".ipynb_checkpoints/a.npy", "__MACOSX/._a.npy", ".Trash/b.npy")
    assert find_maps(tmp_path, [entry("a.png")]) == [tmp_path / "a.npy"]
    assert caplog.text == ""


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_maps_are_found_in_either_form_of_unicode(tmp_path, form):
    image = unicodedata.normalize(form, "Gerät/0.png")
    of_map = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], "Gerät/0.npy")
    touch(tmp_path, of_map)
    assert find_maps(tmp_path, [entry(image)]) == [tmp_path / of_map]


@pytest.mark.parametrize(
    ("maps", "masks", "swapped"),
    [
        ([(7, 5)], [(5, 7)], True),
        ([(70, 50)], [(5, 7)], True),  # smaller or larger, too
        ([(5, 7)], [(5, 7)], False),
        ([(11, 15)], [(150, 210)], False),
        ([(6, 6)], [(5, 7)], False),  # a method that makes all images square
        ([(7, 5)], [(6, 6)], False),
        ([(7, 5), (7, 5)], [(5, 7), (7, 5)], False),  # images that lie and stand, and a method with one size
    ],
)
def test_maps_whose_sides_are_swapped_are_told(tmp_path, maps, masks, swapped):
    entries = [Entry("0.png", "", "bottle", "good", 0)]
    for number, (shape, of_mask) in enumerate(zip(maps, masks, strict=True), start=1):
        np.save(tmp_path / f"{number}.npy", np.zeros(shape))
        Image.fromarray(np.zeros(of_mask, np.uint8)).save(tmp_path / f"{number}_mask.png")
        entries.append(entry(f"{number}.png", f"{number}_mask.png"))
    np.save(tmp_path / "0.npy", np.zeros(maps[0]))
    told = swapped_sides(ImageSet(get_spec("folder"), tmp_path, entries), find_maps(tmp_path, entries))
    height, width = maps[0]
    said = f"bottle: the maps, {height} x {width}, have their sides swapped: the masks lie the other way"
    assert told == ([said] if swapped else [])


def with_one(value: float) -> np.ndarray:
    return np.where(VALUES[2, 3] == VALUES, value, VALUES)


@pytest.mark.parametrize(
    "content, suffix, message",
    [
        (with_one(np.nan), ".npy", "not finite in float32, in row 2, column 3"),
        (with_one(1e39), ".npy", "not finite in float32, in row 2, column 3"),
        (np.zeros((3, 5, 7)), ".npy", r"shape \(3, 5, 7\): expected is height x width"),
        (np.zeros(5), ".npy", r"shape \(5,\)"),
        (np.zeros((0, 5)), ".npy", r"shape \(0, 5\)"),
        (VALUES * 1j, ".npy", "no real numbers"),
        (np.array([{"a": 1}]), ".npy", "cannot read the map"),
        (b"", ".npy", "cannot read the map"),
        (b"no map", ".npy", "cannot read the map"),
        (b"no map", ".tiff", "cannot read the map"),
        (b"", ".tiff", "cannot read the map"),
        (b"no map", ".png", "is not a PNG file"),
        (np.zeros((5, 7, 3), np.uint8), ".png", "a picture in RGB, not in grey"),
    ],
)
def test_a_broken_map_is_one_sentence_with_its_name(tmp_path, content, suffix, message):
    path = tmp_path / f"map{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif suffix == ".png":
        Image.fromarray(content).save(path)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(UserError, match=message) as caught:
        load_map(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_small_file_that_announces_much_is_refused_before_anything_is_read(tmp_path):
    side = 60_000
    about = {"descr": "<f4", "fortran_order": False, "shape": (side, side)}
    for name, length in (("short.npy", 200), ("sparse.npy", 128 + 4 * side**2)):
        with (tmp_path / name).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, about)
            file.truncate(length)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.float32))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        for tag in (256, 257):
            struct.pack_into("<I", content, file.pages[0].tags[tag].valueoffset, side)
    (tmp_path / "a.tif").write_bytes(content)
    for name, said in (
        ("short.npy", "file size"),
        ("sparse.npy", "it has 60000 x 60000 pixels"),
        ("a.tif", "it has 60000 x 60000 pixels"),
    ):
        with pytest.raises(UserError, match=f"cannot read the map .*{name}: .*{said}"):
            load_map(tmp_path / name)


def test_an_archive_of_arrays_is_no_map(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, VALUES)
    with pytest.raises(UserError, match=r"cannot read the map .*a\.npy"):
        load_map(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.png"])
def test_a_pipe_is_no_map(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="Not a regular file"):
        load_map(tmp_path / name)


def test_a_map_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"there is no map .*map\.npy"):
        load_map(tmp_path / "map.npy")


@pytest.mark.parametrize(
    "name", ["a/0.png.npy", "a/0.npy", "a/0.tiff", "a/0.tif", "a/0.TIFF", "a/0.png", "a/0.png.png"]
)
def test_a_map_is_found_by_its_images_path(tmp_path, name):
    touch(tmp_path, name)
    assert find_maps(tmp_path, [entry("a/0.png")]) == [tmp_path / name]


def test_maps_are_found_by_either_name_of_their_folder(tmp_path, warnings_of):
    touch(tmp_path / "elsewhere", "0.npy", "1.png.tiff", "2.png")
    (tmp_path / "maps").mkdir()
    for name in ("a", "b"):
        (tmp_path / "maps" / name).symlink_to(tmp_path / "elsewhere")
    for names in ("a", "b", "ab"):
        images = [f"{name}/{number}.png" for name in names for number in range(3)]
        found = [f"{name}/{file}" for name in names for file in ("0.npy", "1.png.tiff", "2.png")]
        assert find_maps(tmp_path / "maps", [*map(entry, images)]) == [tmp_path / "maps" / name for name in found]
    assert warnings_of() == ""
    touch(tmp_path / "elsewhere", "0.tif")
    for name in ("a", "b"):
        with pytest.raises(UserError, match=rf"{name}/0\.png has two maps, .*{name}/0\.npy and .*{name}/0\.tif"):
            find_maps(tmp_path / "maps", [entry(f"{name}/0.png")])


@pytest.mark.parametrize("name", ["n" * 300 + ".png", "n" * 300 + "/a.png"])
def test_a_map_that_can_have_no_name_is_missing(tmp_path, name):
    with pytest.raises(UserError, match="has no map for 1 of 1 images"):
        find_maps(tmp_path, [entry(name)])


def test_maps_that_cannot_be_told_apart_are_refused(tmp_path):
    touch(tmp_path, "a/0.png.npy", "a/0.tiff")
    with pytest.raises(UserError, match=r"a/0\.png has two maps, .*0\.png\.npy and .*0\.tiff"):
        find_maps(tmp_path, [entry("a/0.png")])
    touch(tmp_path, "b/0.npy")
    with pytest.raises(UserError, match=r"0\.npy would be the map of both b/0\.png and b/0\.jpg"):
        find_maps(tmp_path, [entry("b/0.png"), entry("b/0.jpg")])


def test_missing_maps_are_counted_and_the_first_is_named(tmp_path):
    touch(tmp_path, "a/1.npy")
    with pytest.raises(UserError, match=r"no map for 2 of 3 images, the first of them a/0\.png") as caught:
        find_maps(tmp_path, [entry(f"a/{i}.png") for i in range(3)])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no folder of maps"):
        find_maps(tmp_path / "nowhere", [])


def test_maps_of_no_image_are_warned_of(tmp_path, warnings_of):
    touch(tmp_path, "a/0.npy", "a/1.npy", "b/2.tiff", "a/notes.txt")
    find_maps(tmp_path, [entry("a/0.png")])
    assert "of no image: 2, the first" in warnings_of()
    assert str(tmp_path / "a" / "1.npy") in warnings_of()


def test_loader_gives_maps_at_their_own_size_with_masks_resized_to_it(tmp_path):
    mask = np.zeros((30, 20), bool)
    mask[5:14, 3:9] = True
    Image.fromarray(mask).save(tmp_path / "mask.png")
    sizes = [(12, 9), (7, 13)]
    for i, size in enumerate(sizes):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random(size, np.float32))
    entries = [entry("0.png", "mask.png"), entry("1.png", anomaly=0)]
    for i, batch in enumerate(loader(entries, tmp_path)):
        np.testing.assert_array_equal(batch.images[0, 0], np.load(tmp_path / f"{i}.npy"))
        assert batch.masks.shape == (1, *sizes[i])
        assert batch.has_mask.all()
    first = next(iter(loader(entries, tmp_path)))
    assert torch.equal(first.masks[0], mask_transform(mask, (12, 9)))
    assert first.masks.any()


def test_maps_can_be_brought_to_one_size(tmp_path):
    ramp = np.tile(np.arange(40, dtype=np.float32), (20, 1))
    np.save(tmp_path / "0.npy", ramp)
    entries = [entry("0.png", anomaly=0)]
    (batch,) = loader(entries, tmp_path, map_size=10)
    assert batch.images.shape == (1, 1, 10, 10)
    np.testing.assert_allclose(batch.images[0, 0, 0, 1:-1], ramp.reshape(20, 10, 4).mean((0, 2))[1:-1])


def test_loader_raises_what_a_user_can_mend(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    touch(tmp_path, "0.npy")
    entries = [entry("0.png", anomaly=0)]
    with pytest.raises(UserError, match=r"cannot read the map .*0\.npy"):
        list(loader(entries, tmp_path, workers=1))
