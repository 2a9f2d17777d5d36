"""MLflow's UI: its pages about experiments, runs and registered models, and no more.

MLflow 3.17 also has routes that run commands, call other hosts, or read and write files at a place
that the request names (assistant, gateway, jobs, webhooks, traces, uploads, new experiments and
versions); they are refused, and so is every route that a later MLflow adds.
"""

import logging
import os
import sys

from experiments.servers import run
from experiments.servers.door import Application, Door

LIMIT = 2**20  # bytes of a request; the pages send small ones
READ = (
    "GET /", "GET /health", "GET /version", "GET /static-files/**",
    "GET /get-artifact", "GET /model-versions/get-artifact",
    "POST /graphql",  # it only reads
    "GET /ajax-api/3.0/mlflow/server-info",
    "GET /ajax-api/3.0/mlflow/ui-telemetry",  # the page asks whether it is off: it is
    "GET /ajax-api/2.0/mlflow/artifacts/list",
    "GET /ajax-api/2.0/mlflow/experiments/get",
    "GET /ajax-api/2.0/mlflow/experiments/get-by-name",
    "GET /ajax-api/2.0/mlflow/experiments/search",
    "POST /ajax-api/2.0/mlflow/experiments/search",
    "POST /ajax-api/2.0/mlflow/experiments/search-datasets",
    "GET /ajax-api/2.0/mlflow/logged-models/*",
    "GET /ajax-api/2.0/mlflow/logged-models/*/artifacts/directories",
    "GET /ajax-api/2.0/mlflow/logged-models/*/artifacts/files",
    "POST /ajax-api/2.0/mlflow/logged-models/search",
    "GET /ajax-api/2.0/mlflow/metrics/get-history",
    "GET /ajax-api/2.0/mlflow/metrics/get-history-bulk",
    "GET /ajax-api/2.0/mlflow/metrics/get-history-bulk-interval",
    "GET /ajax-api/2.0/mlflow/model-versions/get",
    "GET /ajax-api/2.0/mlflow/model-versions/search",
    "GET /ajax-api/2.0/mlflow/registered-models/alias",
    "GET /ajax-api/2.0/mlflow/registered-models/get",
    "GET /ajax-api/2.0/mlflow/registered-models/get-latest-versions",
    "POST /ajax-api/2.0/mlflow/registered-models/get-latest-versions",
    "GET /ajax-api/2.0/mlflow/registered-models/search",
    "GET /ajax-api/2.0/mlflow/runs/get",
    "POST /ajax-api/2.0/mlflow/runs/search",
)  # fmt: skip
SORT_OUT = (  # names, notes, tags, aliases, and what is not wanted any more
    "POST /ajax-api/2.0/mlflow/experiments/delete",
    "POST /ajax-api/2.0/mlflow/experiments/delete-experiment-tag",
    "POST /ajax-api/2.0/mlflow/experiments/restore",
    "POST /ajax-api/2.0/mlflow/experiments/set-experiment-tag",
    "POST /ajax-api/2.0/mlflow/experiments/update",
    "DELETE /ajax-api/2.0/mlflow/model-versions/delete",
    "DELETE /ajax-api/2.0/mlflow/model-versions/delete-tag",
    "POST /ajax-api/2.0/mlflow/model-versions/set-tag",
    "PATCH /ajax-api/2.0/mlflow/model-versions/update",
    "DELETE /ajax-api/2.0/mlflow/registered-models/alias",
    "POST /ajax-api/2.0/mlflow/registered-models/alias",
    "DELETE /ajax-api/2.0/mlflow/registered-models/delete",
    "DELETE /ajax-api/2.0/mlflow/registered-models/delete-tag",
    "POST /ajax-api/2.0/mlflow/registered-models/rename",
    "POST /ajax-api/2.0/mlflow/registered-models/set-tag",
    "PATCH /ajax-api/2.0/mlflow/registered-models/update",
    "POST /ajax-api/2.0/mlflow/runs/delete",
    "POST /ajax-api/2.0/mlflow/runs/delete-tag",
    "POST /ajax-api/2.0/mlflow/runs/restore",
    "POST /ajax-api/2.0/mlflow/runs/set-tag",
    "POST /ajax-api/2.0/mlflow/runs/update",
)  # fmt: skip
# what the list of runs asks, and shows an error without; MLflow is not asked
ANSWERS: dict[str, object] = {"GET /ajax-api/2.0/mlflow/gateway-proxy": {"endpoints": []}}
HOSTS = "localhost,localhost:*,127.0.0.1,127.0.0.1:*,[[]::1],[[]::1]:*"  # MLflow's patterns


def environment(store: str, artifacts: str) -> dict[str, str]:
    """What the process of the server is to have in its environment."""
    return {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts,
        "MLFLOW_SERVER_ALLOWED_HOSTS": HOSTS,
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_TRACKING_URI": store,
    }


def door(application: Application) -> Door:
    """MLflow's application behind the door of the UI."""
    return Door(application, READ + SORT_OUT, limit=LIMIT, answers=ANSWERS, objects=True)


def mlflow_application() -> Application:
    """MLflow's server of the store that `environment` names, as `mlflow server` starts it."""
    import uvicorn  # noqa: F401  # MLflow checks hosts only where it sees a server
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"]
    from mlflow.server.fastapi_app import app

    logging.getLogger("mlflow.server").setLevel(logging.CRITICAL)  # its tracebacks: Door says it
    application: Application = app
    return application


if __name__ == "__main__":
    run.stop_quietly()
    run.serve(door(mlflow_application()), int(sys.argv[1]))
