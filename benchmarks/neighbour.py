"""What the spinning of OpenMP's threads is worth alone, and what it costs beside a busy process.

A thread that waits for the others of its team either spins (and takes a core from whoever needs
it) or sleeps (and wakes up late). GOMP_SPINCOUNT says for how many turns it spins before it
sleeps. Each setting trains the same steps in a process of its own, in turn, alone and beside a
process that is always busy; the medians over the rounds are printed as ratios to the default
alone, with a digest of the trained weights, which must be the same for all.

    .venv/bin/python benchmarks/neighbour.py [ROUNDS] [SPINCOUNT ...]     on an idle machine
"""

import os
import subprocess
import sys
import time
from collections import defaultdict
from statistics import median

WARM, SECONDS = 2, 8.0  # steps before the clock starts, and how long it runs
BUSY = "while True: pass"
DEFAULT, PASSIVE = "default", "passive"
SPINS = ("0", "300", "1000", "3000", "10000", "30000", "100000")


def steps() -> None:
    """Train a few steps of `light` on noise; prints images a second and a digest of the weights."""
    import torch

    from centernet import checkpoint
    from centernet.encode import encode
    from centernet.losses import losses
    from centernet.presets import load
    from centernet.seed import cores, set_up
    from centernet.state import make_state
    from centernet.structures import Instances

    config = load("light", {})
    set_up(threads=cores(), deterministic=True, cudnn_benchmark=False)
    state = make_state(config, 3, torch.device("cpu"))
    height, width, count = config.data.height, config.data.width, config.optim.batch_size
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, height, width, generator=draw)
    corners = torch.tensor([[20.0, 30.0, 90.0, 80.0], [100.0, 60.0, 180.0, 120.0]])
    instances = [Instances(corners, torch.tensor([0, 2])) for _ in range(count)]
    target = encode(instances, classes=3, height=height, width=width)
    done, digest, started = 0, "", 0.0
    while done <= WARM or time.perf_counter() - started < SECONDS:
        if done == WARM:
            digest = checkpoint.digest(state.model.state_dict())
            started = time.perf_counter()
        state.optimizer.zero_grad()
        losses(state.model(images), target)["total"].backward()
        state.optimizer.step()
        done += 1
    speed = (done - WARM) * count / (time.perf_counter() - started)
    print(f"{speed:.3f} {digest}")


def measure(setting: str, *, neighbour: bool) -> tuple[float, str]:
    """Images a second and the digest with a setting, alone or beside a busy process."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    if setting == PASSIVE:
        variables["OMP_WAIT_POLICY"] = PASSIVE
    elif setting != DEFAULT:
        variables["GOMP_SPINCOUNT"] = setting
    busy = (
        subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
        if neighbour
        else None
    )
    try:
        done = subprocess.run(
            [sys.executable, __file__, "steps"],
            env=variables, capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()
    speed, _, digest = done.stdout.strip().partition(" ")
    return float(speed), digest


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    settings = [DEFAULT, PASSIVE, *(sys.argv[2:] or SPINS)]
    speeds: dict[tuple[str, bool], list[float]] = defaultdict(list)
    digests = set()
    for _ in range(rounds):
        for neighbour in (False, True):
            for setting in settings:
                speed, digest = measure(setting, neighbour=neighbour)
                speeds[setting, neighbour].append(speed)
                digests.add(digest)
    print(f"{'':>10} {'alone':>16} {'beside a busy process':>24}")
    for setting in settings:
        cells = []
        for neighbour in (False, True):
            pairs = zip(speeds[setting, neighbour], speeds[DEFAULT, False], strict=True)
            ratio = median(mine / base for mine, base in pairs)
            cells.append(f"{median(speeds[setting, neighbour]):6.2f}/s {ratio:5.2f}")
        print(f"{setting:>10} {cells[0]:>16} {cells[1]:>24}")
    print(f"{len(digests)} digest of the trained weights" + ("s" if len(digests) > 1 else ""))


if __name__ == "__main__":
    steps() if sys.argv[1:] == ["steps"] else main()
