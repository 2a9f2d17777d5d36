"""Image files -> RGB arrays, and what is wrong with a file that is not one."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from centernet import files
from centernet.dataset import depth
from centernet.errors import UserError, one_line

MOST_PIXELS = 178_956_970  # beyond, a file is a bomb rather than a photograph; as Pillow has it
Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # from here on Pillow warns, and at twice as many it refuses
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")  # not EPS: it would start a program
BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
# how a complete file ends; a WEBP states its length, and Pillow opens no shorter one
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "WEBP": b""}
ORIENTATION = 0x0112  # EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap the sides
BACK = {6: 8, 8: 6}  # what undoes an orientation, where it is not the same
TURNED = "TIFF"  # the format that Pillow itself turns upright: its size at once, then its pixels
PNG = b"\x89PNG\r\n\x1a\n"  # how one begins
NOTES = (b"tEXt", b"zTXt", b"iTXt")  # its chunks of words,
ORIENTED = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp")  # and keys that may turn it
STACK = "has several pages or frames: the first is read"
TURNS = {  # of each orientation, what makes an image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class TooLarge(ValueError):
    """An image of more than MOST_PIXELS."""


@contextmanager
def opened(source: bytes | IO[bytes]) -> Iterator[ImageFile]:
    """An encoded image whose head is read; every reader comes through here.

    One of BROKEN if it is none, TooLarge before any of its pixels is decoded.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # an error follows
        try:
            image = Image.open(stream, formats=FORMATS)
        except Image.DecompressionBombError as error:
            found = re.search(r"\d+", str(error))
            raise TooLarge(too_many(int(found.group()) if found else 2 * MOST_PIXELS)) from None
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise TooLarge(too_many(image.width * image.height))
        yield image


def too_many(pixels: int) -> str:
    """The rule that a picture of so many pixels breaks."""
    return f"has {pixels} pixels; at most {MOST_PIXELS} are read"


def sizes(content: bytes) -> set[tuple[int, int]]:
    """The (H, W) of an encoded image: as stored, and upright. One of BROKEN, saying why, if cut."""
    with opened(content) as image:
        W, H = image.size
        turned = orientation(image) in SIDEWAYS
        ending = ENDINGS.get(image.format or "")
    with opened(content) as image:
        image.verify()  # a PNG's checksums; Pillow wants a file just opened
    if ending is None:
        read(content)  # only its pixels show that they are all there
    elif ending not in content[-4096:]:
        try:
            read(content)  # something may follow the end, as in a phone's moving pictures
        except BROKEN:
            raise ValueError("its end is missing") from None
    return {(H, W), (W, H) if turned else (H, W)}


def undecided(content: bytes) -> int:
    """The EXIF orientation of an image whose size is the same as stored and upright; else 1."""
    with opened(content) as image:
        found, (W, H) = orientation(image), image.size
        return 1 if found in SIDEWAYS and W != H else found


def size(file: Path) -> tuple[int, int] | None:
    """The upright (H, W) that a file's header states; none where it cannot be read."""
    try:
        with files.opened(file) as stream, opened(stream) as image:
            turned = orientation(image) in SIDEWAYS and image.format != TURNED
            return image.size if turned else image.size[::-1]
    except BROKEN:
        return None


def orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8, of an image just opened; 1 where it says none.

    Pillow decodes all of a PNG to look behind its pixels; here, only where something is there.
    """
    png = image.fp if isinstance(image, PngImageFile) else None
    plain = png is not None and not says_more(png)
    exif = Image.Image.getexif(image) if plain else image.getexif()
    found = exif.get(ORIENTATION)
    return found if found in TURNS else 1


def says_more(png: IO[bytes]) -> bool:
    """Whether chunks behind the pixels of a PNG may say how it is turned; only heads are read."""
    place = png.tell()
    png.seek(len(PNG))
    behind = found = False
    while not found and len(head := png.read(8)) == 8:  # length and kind; then content, checksum
        length, kind, start = int.from_bytes(head[:4]), head[4:], png.tell()
        key = png.read(min(length, 80)).partition(b"\0")[0] if kind in NOTES else b""
        behind = behind or kind == b"IDAT"
        found = behind and (kind == b"eXIf" or key in ORIENTED)
        png.seek(start + length + 4)
    png.seek(place)
    return found


def load(file: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """RGB[H, W, 3]; a file rotated by EXIF is turned upright, unless `size` says it must not be.

    Grey, palette, RGBA and 16-bit images are read too; UserError for a broken or missing file, and
    for pixels of 32 bits or floating point that 8 bits cannot show.
    """
    try:
        content = files.read(file)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except OSError as error:
        raise UserError(f"{file}: {files.reason(error)}") from None
    try:
        return read(content, size)
    except BROKEN as error:
        raise UserError(f"{file}: {fault(error)}") from None


def fault(error: Exception) -> str:
    """What is wrong with an image whose bytes are one of the BROKEN."""
    if isinstance(error, TooLarge):
        return f"the image {error}"
    if isinstance(error, UnidentifiedImageError):  # its own text is about our buffer
        return f"the image is broken: not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
    return f"the image is broken: {one_line(str(error))}"


def read(content: bytes, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """RGB[H, W, 3] of an encoded image; one of BROKEN if it is none."""
    with opened(content) as image:
        found, pillows = orientation(image), image.format == TURNED
        turned = found in SIDEWAYS and not pillows
        upright = image.size if turned else image.size[::-1]
        as_stored = size is not None and size != upright
        wanted = BACK.get(found, found) if pillows else found
        turn = TURNS.get(wanted) if as_stored == pillows else None  # else it is as asked for
        shallow = depth.colours(image, content)
        whole = image if shallow is None else shallow
        return to_rgb(whole if turn is None else whole.transpose(turn))  # its EXIF is left alone


def is_stack(content: bytes | IO[bytes]) -> bool:
    """Whether an image has more pages or frames than the first, which is read.

    What a phone puts behind a JPEG (format MPO) is no page.
    """
    with opened(content) as image:
        try:
            return image.format in FORMATS and bool(getattr(image, "is_animated", False))
        except Exception:  # a second page is there, and broken in any way
            return True


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Any PIL image as RGB[H, W, 3]; transparency lies on white, 16 bits become 8 as in depth.py.

    Of 32 bits and floating point nobody states what is white: whole numbers of 0 to 255 are taken
    as they are, and a ValueError is raised for all others.
    """
    if depth.is_grey(image):
        return np.repeat(depth.grey(image)[..., None], 3, axis=2)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        grey = np.nan_to_num(values).clip(0, 255).astype(np.uint8)
        if not np.array_equal(grey, values):
            kind = "floating-point" if image.mode.startswith("F") else "signed or 32-bit"
            raise ValueError(f"{kind} pixels beyond whole 0 to 255: convert it to 8 or 16 bits")
        return np.repeat(grey[..., None], 3, axis=2)
    if "A" in image.mode or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))
