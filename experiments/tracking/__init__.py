"""Runs, their files and their metrics: what a study leaves in MLflow."""

from experiments.tracking.tracker import Tracker, connect

__all__ = ["Tracker", "connect"]
