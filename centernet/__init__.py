"""The detector: CenterNet, from COCO files to boxes. Knows nothing of trials, runs or servers."""

__version__ = "0.1.0"
