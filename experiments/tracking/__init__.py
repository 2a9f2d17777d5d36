"""Runs, their files and their metrics: what a study leaves in MLflow."""

from experiments.tracking.files import Gone
from experiments.tracking.store import connect, refusal
from experiments.tracking.tracker import Tracker

__all__ = ["Gone", "Tracker", "connect", "refusal"]
