"""Start a server in place of this process, and run it until it is stopped."""

import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import NoReturn

from experiments.servers.door import Door

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PYTHONWARNINGS": "ignore",
}
SECONDS = 3  # that requests in progress get when the server is stopped


def become(module: str, opened: socket.socket, environment: Mapping[str, str]) -> NoReturn:
    """Run a server's module in place of this process, on a socket that takes connections already.

    An address with a password in it belongs into `environment`: everybody sees arguments.
    """
    os.set_inheritable(opened.fileno(), True)
    command = [sys.executable, "-P", "-m", module, str(opened.fileno())]
    environment = {**os.environ, **ENVIRONMENT, **environment}
    os.execve(sys.executable, command, environment)  # noqa: S606  # no shell is wanted


def serve(door: Door, descriptor: int) -> None:
    """Answer what comes to an open socket until a signal ends the process, quietly."""
    import uvicorn

    config = uvicorn.Config(
        door,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        timeout_graceful_shutdown=SECONDS,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def stop_quietly() -> None:
    """Let Ctrl-C end the process without Python's traceback, also while it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
