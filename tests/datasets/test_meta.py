"""meta.json and JSON lines: what is read, what is refused, and that nothing ends in a traceback."""

import copy
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.meta import About, Entry, Finding, read_about, read_meta, write_meta
from utils.errors import UserError

GOOD = Entry("bottle/test/good/000.png", "", "bottle", "good", 0)
BROKEN = Entry("bottle/test/broken/000.png", "bottle/ground_truth/broken/000_mask.png", "bottle", "broken", 1)
OWN = Entry("bottle/new.png", "", "bottle", "", None)


def raw_entry(**changes):
    return asdict(GOOD) | changes


def write(folder: Path, value, name="meta.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def with_test_entry(**changes):
    return {"train": {}, "test": {"bottle": [raw_entry(img_path="bottle/first.png"), raw_entry(**changes)]}}


def test_what_was_written_is_read_again(tmp_path):
    meta = {"train": {"bottle": [GOOD]}, "test": {"bottle": [BROKEN, GOOD, OWN]}}
    write_meta(tmp_path / "meta.json", meta)
    assert read_meta(tmp_path / "meta.json", tmp_path) == meta
    assert list(tmp_path.iterdir()) == [tmp_path / "meta.json"]


def test_the_written_file_has_the_documented_form(tmp_path):
    write_meta(tmp_path / "meta.json", {"test": {"bottle": [OWN]}})
    entry = '{"img_path": "bottle/new.png", "mask_path": "", "cls_name": "bottle", "specie_name": "", "anomaly": null}'
    written = json.loads((tmp_path / "meta.json").read_text())
    assert json.dumps(written) == f'{{"train": {{}}, "test": {{"bottle": [{entry}]}}}}'


def test_json_lines_are_written_as_documented(tmp_path):
    path = tmp_path / "full-shot.jsonl"
    write_meta(path, {"train": {"bottle": [GOOD]}, "test": {"bottle": [BROKEN, GOOD], "new": [OWN]}})
    assert path.read_text(encoding="utf-8") == (
        '{"image_path": "bottle/test/broken/000.png", "label": 1.0, "class_name": "bottle", '
        '"mask_path": "bottle/ground_truth/broken/000_mask.png"}\n'
        '{"image_path": "bottle/test/good/000.png", "label": 0.0, "class_name": "bottle"}\n'
        '{"image_path": "bottle/new.png", "class_name": "bottle"}\n'
    )


FOUND = [Finding("empty masks of anomalous images", "bottle/ground_truth/broken/000_mask.png", "bottle")]


@pytest.mark.parametrize("findings", [None, [], FOUND])
def test_what_was_found_wrong_is_kept(tmp_path, findings, caplog):
    path = tmp_path / "meta.json"
    write_meta(path, {"test": {"bottle": [OWN]}}, About(findings))
    assert read_about(path).findings == findings
    assert read_meta(path, tmp_path)["test"] == {"bottle": [OWN]}
    assert caplog.text == ""
    write_meta(tmp_path / "meta.jsonl", {"test": {"bottle": [OWN]}}, About(findings))
    assert read_about(tmp_path / "meta.jsonl").findings is None


@pytest.mark.parametrize(
    "junk", ["no", 3, {"a": 1}, [3], [{}], [{"what": 1, "where": "", "cls_name": ""}], [["a"] * 2]]
)
def test_findings_that_no_builder_wrote_are_refused(tmp_path, junk):
    path = write(tmp_path, {"train": {}, "test": {}, "findings": junk})
    with pytest.raises(UserError, match=r"meta\.json, findings"):
        read_about(path)


@pytest.mark.parametrize("threshold", ["127", -1, 255])
def test_a_threshold_that_no_mask_can_have_is_refused(tmp_path, threshold):
    path = write(tmp_path, {"train": {}, "test": {}, "options": {"mask_threshold": threshold}})
    with pytest.raises(UserError, match=rf"meta\.json, options: mask_threshold must be .*, not {threshold!r}$"):
        read_about(path)


@pytest.mark.parametrize(
    "other", ["bottle//test/good/000.png", "./bottle/test/good/000.png", "bottle/./test//good/000.png"]
)
def test_one_path_written_in_two_ways_is_one(tmp_path, other):
    path = write(tmp_path, {"train": {}, "test": {"bottle": [raw_entry(), raw_entry(img_path=other)]}})
    with pytest.raises(UserError, match=r"entry 2: the image '.*/000.png' is listed already as .* entry 1"):
        read_meta(path, tmp_path)
    path = write(tmp_path, with_test_entry(mask_path=other, anomaly=1))
    assert read_meta(path, tmp_path)["test"]["bottle"][1].mask_path == "bottle/test/good/000.png"


def test_names_keep_the_space_at_their_ends(tmp_path):
    entries = [raw_entry(img_path=path) for path in ("0.png", "0.png ", " 0.png")]
    meta = read_meta(write(tmp_path, {"train": {}, "test": {"bottle": entries}}), tmp_path)
    assert [entry.img_path for entry in meta["test"]["bottle"]] == ["0.png", "0.png ", " 0.png"]


def test_class_and_entry_order_is_the_files(tmp_path):
    entries = {name: [raw_entry(cls_name=name, img_path=f"{name}/{n}.png") for n in (2, 1)] for name in "ba"}
    meta = read_meta(write(tmp_path, {"train": {}, "test": entries}), tmp_path)
    listed = [entry.img_path for entries in meta["test"].values() for entry in entries]
    assert listed == ["b/2.png", "b/1.png", "a/2.png", "a/1.png"]


@pytest.mark.parametrize(("label", "expected"), [(0, 0), (1, 1), (0.0, 0), (1.0, 1), (None, None)])
def test_labels(tmp_path, label, expected):
    path = write(tmp_path, with_test_entry(anomaly=label))
    anomaly = read_meta(path, tmp_path)["test"]["bottle"][1].anomaly
    assert anomaly == expected
    assert type(anomaly) is type(expected)


def test_json_lines(tmp_path):
    lines = [
        {"image_path": BROKEN.img_path, "label": 1.0, "class_name": "bottle", "mask_path": BROKEN.mask_path},
        {"image_path": "bottle/test/good/000.png", "label": 0, "class_name": "bottle"},
        {"image_path": "nut/a.png", "class_name": "nut", "mask_path": None},
    ]
    text = "\r\n".join(json.dumps(line) for line in lines) + "\n\n"
    meta = read_meta(write(tmp_path, text, "test.jsonl"), tmp_path)
    nut = Entry("nut/a.png", "", "nut", "nut", None)
    assert meta == {"train": {}, "test": {"bottle": [BROKEN, GOOD], "nut": [nut]}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"anomaly": True}, "anomaly: should be a valid number, not True"),
        ({"anomaly": float("nan")}, "must be 0, 1 or null, not nan"),
        ({"anomaly": float("inf")}, "not inf"),
        ({"anomaly": 2}, "not 2"),
        ({"anomaly": 0.5}, "not 0.5"),
        ({"anomaly": "1"}, "not '1'"),
        ({"anomaly": [1]}, r"not \[1\]"),
        ({"img_path": ""}, "img_path: "),
        ({"img_path": 3}, "img_path: should be a valid string, not 3"),
        ({"mask_path": None}, "mask_path: should be a valid string, not None"),
        ({"img_path": "/etc/passwd"}, "is absolute"),
        ({"img_path": "C:/images/1.png"}, "is absolute"),
        ({"img_path": "bottle\\1.png"}, "backslash"),
        ({"img_path": "../1.png"}, r"'\.\.'"),
        ({"mask_path": "bottle/../../1.png"}, r"'\.\.'"),
        ({"img_path": "a\0b.png"}, "not a usable path"),
        ({"cls_name": 7}, "cls_name: should be a valid string"),
        ({"cls_name": "nut"}, "cls_name: 'nut' is not its class"),
        ({"cls_name": "../nut"}, "cannot be the name of a class"),
        ({"cls_name": ""}, "cannot be the name of a class"),
        ({"specie_name": None}, "specie_name: should be a valid string"),
        ({"img_path": "bottle/first.png"}, "listed already as test/bottle entry 1"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path, changes, said):
    path = write(tmp_path, with_test_entry(**changes))
    with pytest.raises(UserError, match=f"meta.json, test/bottle entry 2.*{said}"):
        read_meta(path, tmp_path)


@pytest.mark.parametrize("key", list(raw_entry()))
def test_a_missing_key_is_refused(tmp_path, key):
    value = with_test_entry()
    del value["test"]["bottle"][1][key]
    with pytest.raises(UserError, match=f"test/bottle entry 2/{key}: Field required"):
        read_meta(write(tmp_path, value), tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("1" * 5000, "not valid JSON"),
        ("[]", "should be an object, not "),
        ('{"test": {}}', "train: Field required"),
        ('{"train": {}}', "test: Field required"),
        ('{"train": {}, "test": {}}', "no test images"),
        ('{"train": {}, "test": {"a": []}}', "test/a: the class has no images"),
        ('{"train": [], "test": {}}', "train: should be an object"),
        ('{"train": {}, "test": {"a": {}}}', "test/a: should be a valid array"),
        ('{"train": {}, "test": {"a": ["x"]}}', "test/a entry 1: should be an object, not 'x'"),
        ('{"train": {}, "test": {}, "test": {}}', "the key 'test' is there twice"),
        ('{"train": {}, "test": {"a": [], "a": []}}', "the key 'a' is there twice"),
        ('{"train": {}, "test": {"a\\ud800": []}}', "not valid JSON"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, said):
    with pytest.raises(UserError, match=f"meta.json.*{said}"):
        read_meta(write(tmp_path, text), tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not valid JSON"),
        ("3", "should be an object"),
        ('{"label": 0, "class_name": "a"}', "image_path: Field required"),
        ('{"image_path": "a.png", "label": 0}', "class_name: Field required"),
        ('{"image_path": "a.png", "class_name": "a", "label": true}', "label: should be a valid number, not True"),
        ('{"image_path": "a.png", "class_name": "a", "label": NaN}', "label: must be 0, 1 or null, not nan"),
        ('{"image_path": "../a.png", "class_name": "a", "label": 0}', r"'\.\.'"),
    ],
)
def test_a_wrong_line_is_refused_by_number(tmp_path, line, said):
    first = '{"image_path": "b.png", "class_name": "b", "label": 0}'
    path = write(tmp_path, f"{first}\n\n{line}\n", "test.jsonl")
    with pytest.raises(UserError, match=f"test.jsonl, line 3.*{said}"):
        read_meta(path, tmp_path)


def test_unknown_keys_are_said_once_a_file(tmp_path, caplog):
    entries = [raw_entry(img_path=f"{n}.png", width=5) for n in range(3)]
    path = write(tmp_path, {"train": {}, "val": {}, "test": {"bottle": entries}})
    with caplog.at_level(logging.WARNING):
        meta = read_meta(path, tmp_path)
    assert len(meta["test"]["bottle"]) == 3
    (record,) = caplog.records
    assert "key 'val'" in record.getMessage()
    assert record.getMessage().count("key 'width' (test/bottle entry 1)") == 1


def test_missing_and_undecodable_files(tmp_path):
    with pytest.raises(UserError, match=r"absent\.json: cannot be read, No such file"):
        read_meta(tmp_path / "absent.json", tmp_path)
    (tmp_path / "meta.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match="not UTF-8"):
        read_meta(tmp_path / "meta.json", tmp_path)


def test_a_byte_order_mark_is_no_error(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps(with_test_entry()), encoding="utf-8-sig")
    assert len(read_meta(tmp_path / "meta.json", tmp_path)["test"]["bottle"]) == 2


def test_symlinks_may_not_leave_the_data_set(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "inner").mkdir(parents=True)
    (root / "leading_out").symlink_to(outside)
    (root / "leading_in").symlink_to(root / "inner")
    (root / "loop").symlink_to(root / "loop")
    read_meta(write(root, with_test_entry(img_path="leading_in/1.png")), root)
    for name, said in (("leading_out", "through a symlink"), ("loop", "symlink|not a usable path")):
        path = write(root, with_test_entry(img_path=f"{name}/1.png"))
        with pytest.raises(UserError, match=f"test/bottle entry 2/img_path: .*({said})"):
            read_meta(path, root)


def test_the_root_itself_may_be_a_symlink(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    path = write(tmp_path / "link", with_test_entry())
    assert len(read_meta(path, tmp_path / "link")["test"]["bottle"]) == 2


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\:"), min_size=1).filter(
    lambda name: name not in (".", "..")
)


@st.composite
def classes_of_entries(draw):
    """Classes of entries as JSON lines can hold them: the kind is the image's folder."""
    meta = {}
    for cls_name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
            anomaly = draw(st.sampled_from([0, 1, None]))
            mask = f"masks/{cls_name}/{name}" if anomaly == 1 and draw(st.booleans()) else ""
            meta.setdefault(cls_name, []).append(Entry(f"{cls_name}/a/{name}", mask, cls_name, "a", anomaly))
    return meta


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(test=classes_of_entries())
def test_json_lines_are_read_as_they_were_written(tmp_path, test):
    path = tmp_path / "test.JSONL"
    write_meta(path, {"test": test})
    assert read_meta(path, tmp_path) == {"train": {}, "test": test}


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@st.composite
def spoilt_meta(draw):
    """A sound meta with something anywhere in it replaced by something arbitrary."""
    value = copy.deepcopy(with_test_entry())
    entry = value["test"]["bottle"][1]
    places = [(value, "train"), (value, "test"), (value["test"], "bottle"), (value["test"]["bottle"], 1)]
    place, key = draw(st.sampled_from([*places, *((entry, key) for key in entry)]))
    place[key] = draw(anything)
    return value


TRICKS = ["..", ".", "", "~", "~root", "/", "//", "\\", "..\\a", "C:", "c:x", "\\\\?\\C:", "file:", "%2e%2e", "$HOME"]
TRICKS += ["a\0b", "\ud800", "\n", "\x1b[31m", "\u2024\u2024", "\uff0e\uff0e", "\u202e", "e\u0301", "\xe9", "a" * 300]
TRICKS += ["con", "out", "up", "loop", "absolute", "inner", "file.png", "new.png"]
paths = st.lists(st.sampled_from(TRICKS) | st.text(max_size=4), max_size=5).map("/".join) | st.just("a/" * 3000)
of_entries = {"cls_name": st.just("bottle") | paths, "specie_name": paths, "anomaly": st.sampled_from([0, 1, None])}
tricky_entries = st.fixed_dictionaries({"img_path": paths, "mask_path": paths, **of_entries})


@st.composite
def tricky_files(draw):
    """The name and content of a file whose paths try to lead out, with a few bytes of it replaced or not."""
    entries = draw(st.lists(tricky_entries, min_size=1, max_size=3))
    if draw(st.booleans()):
        keys = {"img_path": "image_path", "mask_path": "mask_path", "cls_name": "class_name", "anomaly": "label"}
        lines = [{line: entry[name] for name, line in keys.items()} for entry in entries]
        name, content = "meta.jsonl", "\n".join(map(json.dumps, lines)).encode()
    else:
        train = {draw(paths): entries} if draw(st.booleans()) else {}
        name, content = "meta.json", json.dumps({"train": train, "test": {"bottle": entries}}).encode()
    if draw(st.booleans()):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=3)) + content[at + 1 :]
    return name, content


file_names = st.sampled_from(["meta.json", "meta.jsonl"])
other_files = st.tuples(file_names, (anything | spoilt_meta()).map(json.dumps).map(str.encode) | st.binary(max_size=60))


@pytest.fixture
def root_with_links(tmp_path) -> Path:
    """A data set's folder with a file, a folder, and symbolic links that stay and that lead out."""
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "file.png").touch()
    links = {"out": tmp_path, "up": Path(".."), "loop": root / "loop", "absolute": Path("/etc"), "in": root / "inner"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=500)
@given(file=tricky_files() | other_files)
def test_any_file_gives_entries_inside_the_data_set_or_one_sentence(root_with_links, file):
    root = root_with_links
    path = root / file[0]
    path.write_bytes(file[1])
    try:
        meta = read_meta(path, root)
    except UserError as error:
        assert str(error).startswith(str(path))
        assert str(error).isprintable()
        assert len(str(error)) < 1000
        return
    entries = [entry for classes in meta.values() for entries in classes.values() for entry in entries]
    assert entries
    assert {type(entry.anomaly) for entry in entries} <= {int, type(None)}
    for name in (name for entry in entries for name in (entry.img_path, entry.mask_path)):
        assert (root / name).resolve().is_relative_to(root.resolve())


@pytest.mark.parametrize("path", ["a\nb.png", "a\x1b[31m.png", "a/" * 3000 + "b.png"])
def test_an_image_that_is_there_twice_is_named_in_one_short_line(tmp_path, path):
    value = {"train": {}, "test": {"bottle": [raw_entry(img_path=path), raw_entry(img_path=path)]}}
    with pytest.raises(UserError, match=r"is listed already|not a usable path") as caught:
        read_meta(write(tmp_path, value), tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["x" * 5000, "a\nb"])
def test_a_class_with_an_unwieldy_name_is_named_shortly(tmp_path, name):
    with pytest.raises(UserError, match="the class has no images") as caught:
        read_meta(write(tmp_path, {"train": {}, "test": {name: []}}), tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_list_that_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "meta.json")
    for read in (lambda path: read_meta(path, tmp_path), read_about):
        with pytest.raises(UserError, match=r"meta\.json: cannot be read, Not a regular file"):
            read(tmp_path / "meta.json")
