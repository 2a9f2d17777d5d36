"""centernet export: an ONNX file that was compared before it was kept."""

import argparse

from centernet.commands.prediction import image_files
from centernet.dataset import images
from centernet.export import export as write
from centernet.predict import Detector

CHECKED = 16  # images on which an export is compared


def export(options: argparse.Namespace) -> int:
    """Write ONNX if its boxes are torch's."""
    detector = Detector.load(options.weights)
    files = image_files([options.images])[:CHECKED]
    parity = write(detector, options.output, [images.load(file) for file in files])
    print(
        f"{options.output}: on {parity.images} images ONNX Runtime's boxes are torch's within "
        f"{parity.boxes:.2g} px, scores within {parity.scores:.2g}"
    )
    return 0
