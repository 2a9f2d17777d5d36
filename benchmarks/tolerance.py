"""How far two trainings of one config come apart: what TOLERANCES of experiments/verdict.py states.

.venv/bin/python benchmarks/tolerance.py PRESET FOLDER SEEDS [FIELD=VALUE ...] [/ FIELD=VALUE ...]

Fields after the slash are the second training's only; without any it is the same again, which says
what fast mode on CUDA does. One JSON object; APs in points, losses as fractions.

    ... light ../shared/data/bccd 3 train.epochs=8 train.threads=1 / train.threads=2
    ... light ../shared/data/bccd 3 train.device=cuda train.deterministic=false
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from centernet.presets import load, parse_overrides
from centernet.structures import Epoch
from centernet.train import train
from experiments.verdict import Comparison, Deviation


def run(preset: str, values: dict[str, Any]) -> list[Epoch]:
    with tempfile.TemporaryDirectory() as scratch:
        return list(train(load(preset, values), Path(scratch)))


def main() -> None:
    preset, folder, seeds, *words = sys.argv[1:]
    cut = words.index("/") if "/" in words else len(words)
    shared, other = parse_overrides(words[:cut]), parse_overrides(words[cut + 1 :])
    worst, rows = Deviation(), []
    for seed in range(int(seeds)):
        values = {"data.folder": folder, "train.seed": seed} | shared
        pair = zip(run(preset, values), run(preset, values | other), strict=True)
        found = [Comparison(*epochs) for epochs in pair]
        for one in found:
            worst = worst.worst(one.deviation)
        rows.append({
            "seed": seed,
            "identical_epochs": sum(not one.differs for one in found),
            "AP": [round(one.deviation.ap, 2) for one in found],
            "loss": [round(one.deviation.loss, 4) for one in found],
            "best_AP": [
                round(max(epoch.metrics.get("AP", 0.0) for epoch in side), 2)
                for side in ([one.then for one in found], [one.now for one in found])
            ],
        })  # fmt: skip
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    asked = {"preset": preset, "shared": shared, "second": other}
    print(json.dumps({**asked, "AP": worst.ap, "loss": worst.loss, "seeds": rows}))


if __name__ == "__main__":
    main()
