"""The detector: CenterNet, from COCO files to boxes. Knows nothing of trials, runs or servers."""

import os

__version__ = "0.1.0"

# Libraries below that would phone home; they read this when they are imported.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
