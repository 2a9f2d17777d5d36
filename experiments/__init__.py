"""The search: Optuna and MLflow around the detector of `centernet`."""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # it may hold a password
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
for name, usual in {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "GIT_PYTHON_REFRESH": "quiet"}.items():
    os.environ[name] = os.environ.get(name) or usual  # one that is empty is not set
