"""Runs, their files and their metrics: what a study leaves in MLflow."""

from experiments.tracking.files import Gone
from experiments.tracking.tracker import Tracker, connect

__all__ = ["Gone", "Tracker", "connect"]
