"""The search: Optuna and MLflow around the detector of `centernet`."""
