"""MLflow's scoring server for one model: images in, boxes out; nothing else is served.

It imports nothing of `centernet`: the model brings the code that it was registered with.
"""

import os
import sys
from pathlib import Path

from experiments.servers import run
from experiments.servers.door import Door

MODEL = "CENTERNET_SERVED_MODEL"  # the folder of the model
LIMIT = 64 * 2**20  # bytes of a request, about 45 MiB of images as base64
ROUTES = ("GET /health", "GET /ping", "GET /version", "POST /invocations")


def environment(store: str, folder: Path) -> dict[str, str]:
    """What the process of the server is to have in its environment."""
    return {
        MODEL: str(folder),
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_TRACKING_URI": store,
    }


def door(folder: Path) -> Door:
    """The scoring server of the model in a folder, behind its door."""
    from mlflow.pyfunc import load_model, scoring_server

    return Door(scoring_server.init(load_model(str(folder))), ROUTES, limit=LIMIT, objects=True)


if __name__ == "__main__":
    run.stop_quietly()
    run.serve(door(Path(os.environ[MODEL])), int(sys.argv[1]))
