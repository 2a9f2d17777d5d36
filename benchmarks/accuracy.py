"""What a preset reaches on a data set: AP, time, images/s. One JSON object, for README.md here.

.venv/bin/python benchmarks/accuracy.py light ../shared/data/bccd [FIELD=VALUE ...]
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from centernet.presets import load, parse_overrides
from centernet.train import train
from experiments.provenance import hardware


def main() -> None:
    preset, folder, *overrides = sys.argv[1:]
    config = load(preset, parse_overrides(overrides) | {"data.folder": folder})
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        epochs = []
        for epoch in train(config, Path(scratch)):
            epochs.append(epoch)
            three = (f"{name} {epoch.metrics.get(name, -1):.1f}" for name in ("AP", "AP50", "AP75"))
            print(epoch.number, *three, file=sys.stderr, flush=True)
    seconds = time.perf_counter() - started
    best = max(epochs, key=lambda epoch: epoch.metrics.get("AP", -1.0))
    result = {
        "preset": preset,
        "data": Path(folder).name,
        "overrides": overrides,
        "epochs": len(epochs),
        "best_epoch": best.number,
        **{name: round(value, 1) for name, value in best.metrics.items()},
        "last_AP": round(epochs[-1].metrics["AP"], 1),
        "seconds": round(seconds),
        "seconds_per_epoch": round(median(epoch.seconds for epoch in epochs), 1),
        "seconds_evaluating": round(sum(epoch.seconds_evaluating for epoch in epochs), 1),
        "images_per_second": round(median(epoch.images_per_second for epoch in epochs), 1),
        "hardware": {k: hardware()[k] for k in ("cpu", "cpus", "gpu")},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
