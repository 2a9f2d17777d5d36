"""The detector: CenterNet, from COCO files to boxes. Knows nothing of trials, runs or servers."""

import os

__version__ = "0.1.0"

# Libraries below that would phone home; they read this when they are imported.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# OpenMP's threads wait by spinning, and beside one busy process a training on two cores falls to a
# twentieth. With fewer turns before they sleep it keeps more than half of its
# share (benchmarks/neighbour.py); results are the same. Read when torch is loaded.
if not os.environ.get("OMP_WAIT_POLICY"):
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
