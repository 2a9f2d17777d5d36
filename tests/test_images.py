import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from centernet.dataset import coco, duplicates, images
from centernet.errors import UserError

GREY = (np.arange(20 * 30).reshape(20, 30) % 256).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], 2)


def saved(tmp_path: Path, image: Image.Image, name: str = "a.png", **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    assert np.array_equal(images.load(saved(tmp_path, Image.fromarray(COLOUR))), COLOUR)


def test_grey_and_16_bit_grey_become_rgb(tmp_path: Path) -> None:
    expected = np.repeat(GREY[..., None], 3, 2)
    assert np.array_equal(images.load(saved(tmp_path, Image.fromarray(GREY))), expected)
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    for name in ("a.png", "a.tif"):
        assert np.array_equal(images.load(saved(tmp_path, deep, name)), expected)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_whole_numbers_of_8_bits_are_read_whatever_type_they_have(
    tmp_path: Path, kind: type
) -> None:
    file = saved(tmp_path, Image.fromarray(GREY.astype(kind)), "a.tif")
    assert np.array_equal(images.load(file), np.repeat(GREY[..., None], 3, 2))


BEYOND = {  # what 8 bits cannot show
    "0 to 1": GREY.astype(np.float32) / 255,
    "dark and bright": GREY.astype(np.float32) * 40,
    "below 0": GREY.astype(np.float32) - 128,
    "not a number": np.where(GREY > 9, np.float32("nan"), np.float32(1)),
    "infinite": np.where(GREY > 9, np.float32("inf"), np.float32(1)),
    "12 bits in 32": GREY.astype(np.int32) * 16,
    "32 bits, below 0": GREY.astype(np.int32) - 128,
}


@pytest.mark.parametrize("what", BEYOND)
def test_pixels_that_8_bits_cannot_show_are_refused_not_made_black_or_white(
    tmp_path: Path, what: str
) -> None:
    file = saved(tmp_path, Image.fromarray(BEYOND[what]), "a.tif")
    kind = "signed or 32-bit" if "32" in what else "floating-point"
    message = rf"a\.tif: the image is broken: {kind} pixels beyond whole 0 to 255: convert it"
    with pytest.raises(UserError, match=message):
        images.load(file)
    with pytest.raises(images.BROKEN, match="convert it to 8 or 16 bits"):
        images.sizes(file.read_bytes())  # as the reading of a data set


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_white_of_16_bit_pixels_is_the_largest_number_of_the_bits_that_are_used(
    tmp_path: Path, bits: int, name: str
) -> None:
    top = 2**bits - 1
    deep = (GREY / 255 * top).round().astype(np.uint16)
    expected = np.repeat(GREY[..., None], 3, 2)
    assert np.array_equal(images.load(saved(tmp_path, Image.fromarray(deep), name)), expected)
    colour = (COLOUR / 255 * top).round().astype(np.uint16)  # Pillow cannot write it, OpenCV can
    cv2.imwrite(str(tmp_path / name), colour[..., ::-1])
    assert np.abs(images.load(tmp_path / name).astype(int) - COLOUR).max() <= (bits == 16)
    clear = np.dstack([colour[..., ::-1], np.full((20, 30), 2**16 - 1, np.uint16)])
    cv2.imwrite(str(tmp_path / "c.png"), clear)
    assert np.abs(images.load(tmp_path / "c.png").astype(int) - COLOUR).max() <= 1


def test_a_dark_picture_of_12_bits_keeps_its_darkness_where_the_tiff_says_what_is_white(
    tmp_path: Path,
) -> None:
    dark = np.full((20, 30), 100, np.uint16)
    file = saved(tmp_path, Image.fromarray(dark), "a.tif", tiffinfo={281: 4095})
    assert (images.load(file) == round(100 / 4095 * 255)).all()
    assert (images.load(saved(tmp_path, Image.fromarray(dark), "b.tif")) == 100).all()


def test_16_bits_whose_white_is_0_are_inverted_as_8_are(tmp_path: Path) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    file = saved(tmp_path, deep, "a.tif", tiffinfo={262: 0})
    assert np.array_equal(images.load(file)[..., 0], 255 - GREY)


STACKS = {"a.tif": {}, "a.gif": {}, "a.png": {}, "a.webp": {"lossless": True}}


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_or_animation_is_told_and_its_first_page_is_read(tmp_path: Path, name: str) -> None:
    pages = [Image.fromarray(GREY + shade) for shade in (0, 90)]
    assert not images.is_stack(saved(tmp_path, pages[0], f"one-{name}").read_bytes())
    file = saved(tmp_path, pages[0], name, save_all=True, append_images=pages[1:], **STACKS[name])
    assert images.is_stack(file.read_bytes())
    assert np.abs(images.load(file)[..., 0].astype(int) - GREY).max() <= 1


def bomb(side: int) -> bytes:
    """A PNG of black pixels."""
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    ends = chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return images.PNG + b"".join(ends)


@pytest.mark.parametrize("side", [13_400, 23_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.png").write_bytes(content := bomb(side))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    message = f"the image has {side * side} pixels; at most 178956970 are read"
    with pytest.raises(UserError, match=rf"bomb\.png: {message}"):
        images.load(tmp_path / "bomb.png")
    for read in (images.read, images.sizes, images.undecided, images.is_stack):
        with pytest.raises(images.BROKEN, match=f"has {side * side} pixels"):
            read(content)
    assert images.size(tmp_path / "bomb.png") is None
    assert duplicates.small(tmp_path / "bomb.png") is None
    assert "has" in str(coco_defect(tmp_path, content, side))


def coco_defect(folder: Path, content: bytes, side: int) -> UserError:
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(content)
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "width": side, "height": side}],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}],
    }
    (folder / "train.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=f"the image has {side * side} pixels") as caught:
        coco.read(folder, "train")
    return caught.value


def test_palette_and_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    assert np.array_equal(images.load(saved(tmp_path, palette)), np.asarray(palette.convert("RGB")))
    alpha = np.dstack([COLOUR, np.full((20, 30), 0, np.uint8)])
    assert (images.load(saved(tmp_path, Image.fromarray(alpha))) == 255).all()
    opaque = np.dstack([COLOUR, np.full((20, 30), 255, np.uint8)])
    assert np.array_equal(images.load(saved(tmp_path, Image.fromarray(opaque))), COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone_unless_the_json_says_the_boxes_are_not(
    tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    file = saved(tmp_path, Image.fromarray(COLOUR), exif=exif)
    turned = orientation >= 5
    assert images.load(file).shape == ((30, 20, 3) if turned else (20, 30, 3))
    assert images.sizes(file.read_bytes()) == ({(20, 30), (30, 20)} if turned else {(20, 30)})
    if turned:
        assert np.array_equal(images.load(file, (20, 30)), COLOUR)


@pytest.mark.parametrize("kind", images.FORMATS)
def test_a_truncated_file_is_found_before_it_is_decoded(tmp_path: Path, kind: str) -> None:
    content = saved(tmp_path, Image.fromarray(COLOUR), "a", format=kind).read_bytes()
    images.sizes(content)
    with pytest.raises(images.BROKEN):
        images.sizes(content[:-40])
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cut: the image is broken"):
        images.load(tmp_path / "cut")


def test_a_file_that_is_no_image_is_told_what_is_one(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(
        UserError, match=r"text\.jpg: the image is broken: not a JPEG, PNG.* or GIF"
    ):
        images.load(tmp_path / "text.jpg")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone_as_pillow_does(
    tmp_path: Path, orientation: int, kind: str
) -> None:
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    file = saved(tmp_path, Image.fromarray(COLOUR), "a", format=kind, exif=exif)
    with Image.open(file) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(images.load(file), upright)
    assert images.size(file) == upright.shape[:2]
    if upright.shape != COLOUR.shape:
        assert np.array_equal(images.load(file, COLOUR.shape[:2]), COLOUR)
        assert np.array_equal(images.load(file, upright.shape[:2]), upright)


def test_exif_with_a_tag_of_the_wrong_type_does_not_matter(tmp_path: Path) -> None:
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2)
    turned = struct.pack("<HHIHH", images.ORIENTATION, 3, 1, 6, 0)
    unit = struct.pack("<HHI4s", 0x0128, 2, 4, b"in\0\0")  # ResolutionUnit, as text
    exif = head + turned + unit + bytes(4)
    file = saved(tmp_path, Image.fromarray(COLOUR), "a.jpg", format="JPEG", exif=exif)
    with Image.open(file) as image, pytest.raises((struct.error, TypeError)):
        ImageOps.exif_transpose(image)
    assert images.load(file).shape == (COLOUR.shape[1], COLOUR.shape[0], 3)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + zlib.crc32(kind + content).to_bytes(4)


SIDEWAYS = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, images.ORIENTATION, 3, 1, 6, 0, 0)
BEHIND = {  # chunks of a PNG, and whether they turn it
    "nothing": (b"", False),
    "a date": (chunk(b"tEXt", b"date:create\0" + b"2020"), False),
    "EXIF": (chunk(b"tEXt", b"a\0" + b"b" * 200) + chunk(b"eXIf", SIDEWAYS), True),
    "EXIF in words": (
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 38\n" + SIDEWAYS.hex().encode()),
        True,
    ),
    "XMP": (chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<a tiff:Orientation="6"/>'), True),
}


@pytest.mark.parametrize("what", BEHIND)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_png_is_decoded_only_where_its_orientation_may_stand_behind_its_pixels(
    tmp_path: Path, what: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, turned = BEHIND[what]
    content = saved(tmp_path, Image.fromarray(COLOUR)).read_bytes()
    at = content.index(b"IDAT") - 4 if place == "before" else len(content) - 12
    (tmp_path / "a.png").write_bytes(content[:at] + chunks + content[at:])
    decoded: list[str] = []
    load = PngImagePlugin.PngImageFile.load
    monkeypatch.setattr(
        PngImagePlugin.PngImageFile, "load", lambda image: (decoded.append(""), load(image))[1]
    )
    assert images.size(tmp_path / "a.png") == ((30, 20) if turned else (20, 30))
    assert bool(decoded) == (turned and place == "behind")
    both = {(20, 30), (30, 20)}
    assert images.sizes((tmp_path / "a.png").read_bytes()) == (both if turned else {(20, 30)})
    assert images.load(tmp_path / "a.png").shape == ((30, 20, 3) if turned else (20, 30, 3))
