"""centernet export: an ONNX file that was compared before it was kept."""

import argparse
import shlex
import sys

from centernet import sources
from centernet.dataset import images
from centernet.errors import UserError, counted
from centernet.export import BOX_TOLERANCE, SCORE_TOLERANCE
from centernet.export import export as write
from centernet.predict import Detector
from centernet.shell import typed

CHECKED = 16  # images on which an export is compared


def export(options: argparse.Namespace) -> int:
    """Write ONNX if its boxes are torch's."""
    if options.output.suffix.lower() != ".onnx":
        raise UserError(f"--output {options.output}: the name of an ONNX file ends in .onnx")
    if options.weights.suffix.lower() == ".onnx":
        raise UserError(f"{options.weights}: is ONNX already; --weights takes a .safetensors file")
    files = [file for file in sources.behind(str(options.images)) if not sources.is_video(file)]
    if not files:
        raise UserError(f"{options.images}: no image in this folder")
    detector = Detector.load(options.weights)
    options.output.parent.mkdir(parents=True, exist_ok=True)  # now: it may not be allowed
    print("translating the network, which takes about ten seconds", file=sys.stderr, flush=True)
    parity = write(detector, options.output, [images.load(file) for file in files[:CHECKED]])
    print(
        f"{options.output}: on {counted(parity.images, 'image')} ONNX Runtime's boxes are "
        f"torch's within {parity.boxes:.2g} px, scores within {parity.scores:.2g} "
        f"({BOX_TOLERANCE} and {SCORE_TOLERANCE} allowed)"
    )
    weights = shlex.quote(str(options.output))
    print(f"Next: {typed('centernet')} predict --weights {weights} IMAGE ...")
    return 0
