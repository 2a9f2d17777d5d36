"""Who may ask MLflow's servers on this machine, and for what: every route of the installed MLflow."""

import asyncio
import base64
import http.client
import io
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from PIL import Image

from experiments.servers import scoring, ui
from experiments.servers.door import Application, Door, Message, Receive, Send, stranger

HOST = "127.0.0.1:5000"
SERVER = """
import sys
from experiments.servers import run
from experiments.servers.door import Door

async def application(scope, receive, send):
    size = len((await receive())["body"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})

run.stop_quietly()
run.serve(Door(application, ["GET /", "POST /"], limit=2**20), int(sys.argv[1]))
"""


DOT = [[[0, 255, 7]]]  # an image of one pixel
SPOILT = ["no base64!", "é", "aGVsbG8=", b"no picture", [[1, 2], [3, 4]], [[[1.5, 2, 3]]],
          [[[1, 2, 3]], [[1, 2]]], [[[0, 1, 256]]], [[[-1, 1, 2]]], [[[math.nan, 1, 2]]],
          [[[math.inf, 1, 2]]], np.zeros((0, 4, 3)), np.ones((1, 1, 3), bool)]  # fmt: skip


class Behind:
    """An application that notes which requests reach it, with their bodies."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, bytes]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        event = await receive()
        assert event["type"] == "http.request" and not event["more_body"]
        self.reached.append((f"{scope['method']} {scope['path']}", event["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def ask(door: Door, request: str, *parts: bytes, kind: str = "http", **fields: str) -> Message:
    """Send a request in parts, the last None for a broken connection; what comes back first."""
    method, path = request.split(" ", 1)
    given = {"host": HOST} | {name.replace("_", "-"): value for name, value in fields.items()}
    events: list[Message] = [
        {"type": "http.request", "body": part, "more_body": index + 1 < len(parts)}
        for index, part in enumerate(parts or (b"",))
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(event: Message) -> None:
        sent.append(event)

    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": kind, "method": method, "path": path, "headers": pairs}
    asyncio.run(door(scope, receive, send))
    return sent[0]


def installed(application: Application) -> set[str]:
    """Every method and rule of a FastAPI application and of the Flask ones mounted in it."""
    from fastapi.routing import iter_route_contexts

    return {
        f"{method} {route.path}"
        for route in iter_route_contexts(application.routes)  # type: ignore[attr-defined]
        for method in route.methods or ()
    }


@pytest.fixture(scope="module")
def mlflow_routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every route of MLflow's server, `*` for a part that a request chooses, `**` for several."""
    home = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's about itself
        for name, value in ui.environment(f"sqlite:///{home}/a.db", str(home)).items():
            patch.setenv(name, value)
        for name in ("_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_ARTIFACT_ROOT"):
            patch.setenv(name, "")  # so that they are put back
        fastapi = installed(ui.mlflow_application())
        from mlflow.server import app as flask
    rules = {
        f"{method} {rule.rule}" for rule in flask.url_map.iter_rules() for method in rule.methods
    }
    marked = {re.sub(r"\{\w+:path\}|<path:\w+>", "**", route) for route in fastapi | rules}
    return {re.sub(r"\{\w+\}|<(\w+:)?\w+>", "*", route) for route in marked}


def test_a_route_of_mlflow_is_listed_or_refused(mlflow_routes: set[str]) -> None:
    listed = {*ui.READ, *ui.SORT_OUT}
    assert any("/assistant/" in route for route in mlflow_routes)  # FastAPI's
    assert any("/webhooks" in route for route in mlflow_routes)  # Flask's
    assert listed <= mlflow_routes, "routes are listed that MLflow does not have"
    for route in sorted(mlflow_routes):
        behind = Behind()
        answer = ask(ui.door(behind), route.replace("**", "a/b").replace("*", "a"))
        assert (route in listed) == bool(behind.reached), route
        known = route in listed or route in ui.ANSWERS
        assert answer["status"] == (200 if known else 404), route


def test_what_the_ui_serves_runs_nothing_and_reads_no_place_that_a_request_names() -> None:
    for word in ("assistant", "gateway", "job", "webhook", "invoke", "scorer", "prompt", "trace",
                 "secret", "mcp", "upload", "create", "log-", "presigned", "mlflow-artifacts", "/v1/"):  # fmt: skip
        assert not [route for route in ui.READ + ui.SORT_OUT if word in route], word


def test_the_scoring_server_has_the_listed_routes_and_its_documentation_is_not_served() -> None:
    from mlflow.models import Model
    from mlflow.pyfunc import scoring_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "")  # so that it is put back
        routes = installed(scoring_server.init(SimpleNamespace(metadata=Model())))
    assert {*scoring.ROUTES} <= routes
    for route in routes:
        status = ask(Door(Behind(), scoring.ROUTES, limit=1), route)["status"]
        assert status == (200 if route in scoring.ROUTES else 404), route


@pytest.mark.parametrize(
    "fields, status",
    [
        ({}, 200),
        ({"host": "localhost:8080"}, 200),
        ({"host": "[::1]:5000"}, 200),
        ({"host": "10.evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:5000"}, 403),
        ({"host": "localhost@evil.example"}, 403),
        ({"host": "0.0.0.0:5000"}, 403),
        ({"host": ""}, 403),
        ({"origin": f"http://{HOST}"}, 200),
        ({"origin": "http://127.0.0.1:8888"}, 403),
        ({"origin": "http://localhost:5000"}, 403),
        ({"origin": "https://127.0.0.1:5000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"}, 200),
        ({"sec_fetch_site": "none", "sec_fetch_mode": "navigate"}, 200),
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
    ],
)
def test_only_this_machine_and_its_own_page_may_ask(fields: dict[str, str], status: int) -> None:
    for request in ("GET /get-artifact", "POST /ajax-api/2.0/mlflow/runs/delete", "GET /health"):
        behind = Behind()
        assert ask(ui.door(behind), request, **fields)["status"] == status
        assert bool(behind.reached) == (status == 200)


def test_a_link_from_another_page_opens_the_ui_but_a_form_of_it_deletes_nothing() -> None:
    fields = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert ask(ui.door(Behind()), "GET /", **fields)["status"] == 200
    delete = "POST /ajax-api/2.0/mlflow/runs/delete"
    assert ask(ui.door(Behind()), delete, **fields)["status"] == 403


def test_a_request_without_or_with_two_hosts_is_refused() -> None:
    host = (b"host", HOST.encode())
    for hosts in ([], [host, host]):
        assert stranger({"method": "GET", "headers": hosts})
    assert not stranger({"method": "GET", "headers": [host]})


@pytest.mark.parametrize(
    "path",
    [
        "/static-files/../ajax-api/3.0/mlflow/assistant/config/",
        "//ajax-api/3.0/mlflow/assistant/config",
        "/ajax-api/3.0/mlflow/assistant/config",
        "/ajax-api/2.0/mlflow/runs/get/",
        "/ajax-api/2.0/mlflow/logged-models/a/b",
        "/ajax-api/2.0/mlflow/runs/get\n",
        "/AJAX-API/2.0/mlflow/runs/get",
        "http://127.0.0.1:5000/",
        "",
    ],
)
def test_a_path_that_only_resembles_a_listed_one_reaches_nothing_else(path: str) -> None:
    behind = Behind()
    ask(ui.door(behind), f"GET {path}")
    assert all(request.startswith("GET /static-files/") for request, _ in behind.reached)


def test_a_method_that_is_not_listed_is_refused() -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "get", "HEAD"):
        assert ask(ui.door(Behind()), f"{method} /")["status"] == 404


@pytest.mark.parametrize("parts", [(b"",), (b"abcd",), (b"ab", b"", b"cd")])
def test_a_body_up_to_the_limit_arrives_whole(parts: tuple[bytes, ...]) -> None:
    behind = Behind()
    assert ask(Door(behind, ["POST /"], limit=4), "POST /", *parts)["status"] == 200
    assert behind.reached == [("POST /", b"".join(parts))]


@pytest.mark.parametrize(
    "parts, fields",
    [((b"abcde",), {}), ((b"ab", b"cd", b"e"), {}), ((), {"content_length": "5"}),
     ((), {"content_length": "9" * 20})],
)  # fmt: skip
def test_a_body_above_the_limit_is_413(parts: tuple[bytes, ...], fields: dict[str, str]) -> None:
    behind = Behind()
    assert ask(Door(behind, ["POST /"], limit=4), "POST /", *parts, **fields)["status"] == 413
    assert not behind.reached


def test_a_body_that_breaks_off_does_not_arrive() -> None:
    behind = Behind()
    events = iter([{"type": "http.request", "body": b"a", "more_body": True},
                   {"type": "http.disconnect"}])  # fmt: skip

    async def receive() -> Message:
        return next(events)

    async def send(event: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"host", HOST.encode())]}
    asyncio.run(Door(behind, ["POST /"], limit=4)(scope, receive, send))
    assert not behind.reached


def test_a_websocket_is_closed() -> None:
    answer = ask(ui.door(Behind()), "GET /", kind="websocket")
    assert answer["type"] == "websocket.close"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"a": 1}', "application/json", 200),
        (b"", "", 200),
        (b"image\nxyz", "text/csv", 200),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff{}", "application/json", 400),
        (b'{"a": 1}', "", 400),
    ],
)
def test_mlflow_gets_a_json_object_or_csv(body: bytes, kind: str, status: int) -> None:
    door = Door(Behind(), ["POST /"], limit=2**20, objects=True)
    assert ask(door, "POST /", body, content_type=kind)["status"] == status


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"error_code": "X", "message": "a\\nb", "stack_trace": "Traceback"}', ("X", "a b")),
        (b"<!doctype html><title>500", ("INTERNAL_ERROR", "the request could not be answered")),
        (b"Internal Server Error", ("INTERNAL_ERROR", "Internal Server Error")),
        (None, ("INTERNAL_ERROR", "the server failed: RecursionError")),
    ],
)
def test_an_error_of_the_application_leaves_as_one_line(
    body: bytes | None, told: tuple[str, str]
) -> None:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if body is not None:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": body})
        else:
            raise RecursionError

    sent: list[Message] = []

    async def send(event: Message) -> None:
        sent.append(event)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", HOST.encode())]}
    asyncio.run(Door(application, ["GET /"], limit=1)(scope, receive, send))
    start, content = sent
    assert start["status"] == 500
    assert json.loads(content["body"]) == dict(zip(("error_code", "message"), told, strict=True))


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that serves the length of what it gets, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        os.set_inheritable(opened.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(opened.fileno())], text=True, close_fds=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        port = opened.getsockname()[1]
    with process:
        yield process, port
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_server_bounds_bodies_and_a_signal_ends_it_quietly(
    server: tuple[subprocess.Popen[str], int], number: signal.Signals
) -> None:
    process, port = server
    for size, announced in ((2**20, True), (2**20, False), (2**20 + 1, True), (2**20 + 1, False)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = b"x" * size
        connection.request("POST", "/", body if announced else iter([body[:9], body[9:]]))
        response = connection.getresponse()
        assert response.status == (200 if size == 2**20 else 413)
        assert response.status == 413 or response.read() == str(size).encode()
        connection.close()
    assert not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    process.send_signal(number)
    assert process.wait(10) == -number
    assert process.stdout is not None and not process.stdout.read()


@pytest.mark.parametrize("cell", SPOILT)
def test_what_is_no_picture_is_named_without_a_traceback(cell: object) -> None:
    from mlflow.exceptions import MlflowException

    from experiments.serving import DetectorModel

    with pytest.raises(MlflowException, match=r"^image: ") as caught:
        DetectorModel.predict(
            SimpleNamespace(detector=None), None, pandas.DataFrame({"image": [cell]})
        )  # type: ignore[arg-type]
    assert "Traceback" not in caught.value.serialize_as_json()


def test_an_image_may_come_as_bytes_text_whole_numbers_or_a_list_of_one_text() -> None:
    from experiments.serving import to_array

    for array in (DOT, np.array(DOT), np.array(DOT, float)):
        assert to_array(array).tolist() == DOT and to_array(array).dtype == np.uint8
    content = io.BytesIO()
    Image.fromarray(np.array(DOT, np.uint8)).save(content, "PNG")
    text = base64.b64encode(content.getvalue()).decode()
    for cell in (content.getvalue(), text, [text], np.array([text]), np.array([text], object)):
        assert to_array(cell).tolist() == DOT
