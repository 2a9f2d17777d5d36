"""What a trained detector costs to run: further objectives and constraints, by name."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from centernet.predict import Detector

WARM, RUNS = 5, 30


def latency_ms(detector: Detector) -> float:
    """Median milliseconds from an RGB image to its boxes, one image at a time, on this machine."""
    image = np.random.default_rng(0).integers(
        0, 255, (detector.height, detector.width, 3), np.uint8
    )
    seconds = []
    for _ in range(WARM + RUNS):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = time.perf_counter()
        detector(image)
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds[WARM:])


def parameters_m(detector: Detector) -> float:
    """Millions of weights."""
    return sum(parameter.numel() for parameter in detector.model.parameters()) / 1e6


COSTS: dict[str, Callable[[Detector], float]] = {
    "latency_ms": latency_ms,
    "parameters_m": parameters_m,
}
