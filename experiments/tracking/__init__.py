"""Runs, their files and their metrics: what a study leaves in MLflow."""

from experiments.tracking.store import connect, refusal
from experiments.tracking.tracker import Tracker

__all__ = ["Tracker", "connect", "refusal"]
