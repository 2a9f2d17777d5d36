"""What a neck costs: processor time of a step (forward and backward), over that of the default one.

    .venv/bin/python benchmarks/necks.py light

One thread, batches of 4 at 160x160 px; all necks in turn in one run, the least of five each.
"""

import sys
import time
from collections import defaultdict

import torch

from centernet.model import build
from centernet.presets import load

NECKS = (("pyramid", 64), ("pyramid", 96), ("dla_up", 64), ("dla_up", 40), ("dla_up", 32))
ROUNDS = 5


def main() -> None:
    torch.set_num_threads(1)
    own = load(sys.argv[1]).model.model_dump()
    nets = {
        (neck, width): build(**(own | {"neck": neck, "channels": width}), classes=3).train()
        for neck, width in NECKS
    }
    images = torch.zeros(4, 3, 160, 160)
    seconds = defaultdict(list)
    for _ in range(ROUNDS):
        for name, net in nets.items():
            started = time.process_time()
            maps = net(images)
            (maps.heatmap.mean() + maps.size.mean() + maps.offset.mean()).backward()
            seconds[name].append(time.process_time() - started)
    least = {name: min(several) for name, several in seconds.items()}
    for (neck, width), one in least.items():
        print(f"{neck} {width} wide: {1000 * one:.0f} ms, {one / least[NECKS[0]]:.2f}")


if __name__ == "__main__":
    main()
