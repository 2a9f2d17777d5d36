"""A door before a web application: who may ask, for what, and how much at once.

It refuses, in one line, before the application behind it sees anything: a request under another
machine's name (a web page can give its own name this address), one sent by another page, one for a
route that is not listed, and one that is too large.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]  # what ASGI calls a scope or an event
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")  # a tunnel has another port
CODES = {
    400: "BAD_REQUEST",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    413: "REQUEST_LIMIT_EXCEEDED",
}


class Door:
    """An ASGI application that passes on to `application` only what `routes` list.

    A route is a method and a path, `GET /runs/*/files/**`: `*` is any text without a slash, `**`
    any text. `answers` are given to requests in the application's place. A body may have `limit`
    bytes, with or without an announced length; with `objects` it is a JSON object, or CSV.
    """

    def __init__(
        self,
        application: Application,
        routes: Iterable[str],
        *,
        limit: int,
        answers: Mapping[str, object] | None = None,
        objects: bool = False,
    ) -> None:
        """Read the routes once."""
        self.application = application
        self.routes = re.compile("|".join(map(pattern, routes)))
        self.limit = limit
        self.answers = answers or {}
        self.objects = objects

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request; a connection of another kind is closed."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        request = f"{scope['method']} {scope['path']}"
        why = stranger(scope)
        if why:
            await refuse(send, 403, why)
        elif request in self.answers:
            await answer(send, 200, self.answers[request])
        elif not self.routes.fullmatch(request):
            await refuse(send, 404, f"{request} is not served here")
        elif (body := await self.body(scope, receive)) is None:
            await refuse(send, 413, f"a request may have {self.limit / 2**20:g} MiB")
        elif self.objects and body and (why := unreadable(scope, body)):
            await refuse(send, 400, why)
        else:
            await self.passed_on(scope, replayed(body, receive), send)

    async def passed_on(self, scope: Message, receive: Receive, send: Send) -> None:
        """Send what the application answers; an error of any kind as one line.

        MLflow's errors may bring Python's traceback, or a page.
        """
        status, parts = 0, []

        async def sort_out(event: Message) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            if status < 400:
                await send(event)
            else:
                parts.append(event.get("body", b""))

        try:
            await self.application(scope, receive, sort_out)
        except Exception as error:
            if 0 < status < 400:
                return  # the answer has begun: it breaks off
            status, parts = 500, [f"the server failed: {type(error).__name__}".encode()]
        if status >= 400:
            await answer(send, status, in_short(status, b"".join(parts)))

    async def body(self, scope: Message, receive: Receive) -> bytes | None:
        """The whole body of a request, read here; None if it is too large or breaks off."""
        announced = headers(scope, "content-length")
        if announced and int(announced[0]) > self.limit:
            return None
        parts, size, more = [], 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return None
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > self.limit:
                return None
            more = event.get("more_body", False)
        return b"".join(parts)


def stranger(scope: Message) -> str:
    """Why the one who asks may not; empty for this machine and its own page."""
    hosts = headers(scope, "host")
    if len(hosts) != 1 or not LOCAL.fullmatch(hosts[0]):
        return "the Host of a request must be localhost, 127.0.0.1 or [::1]"
    if any(origin != f"http://{hosts[0]}" for origin in headers(scope, "origin")):
        return "another page may not ask (Origin)"
    followed = scope["method"] == "GET" and headers(scope, "sec-fetch-mode") == ["navigate"]
    if not followed and not {*headers(scope, "sec-fetch-site")} <= {"same-origin", "none"}:
        return "another page may not ask (Sec-Fetch-Site)"
    return ""


def unreadable(scope: Message, body: bytes) -> str:
    """Why a body is not one that MLflow can read; empty for a JSON object, and for CSV."""
    kinds = headers(scope, "content-type")
    if len(kinds) != 1 or not kinds[0].strip():
        return "a request with a body needs one Content-Type: application/json"
    if kinds[0].strip().startswith("text/csv"):
        return ""
    try:
        fits = isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):  # the latter: nested too deeply
        fits = False
    return "" if fits else "the body of a request must be a JSON object"


def in_short(status: int, body: bytes) -> dict[str, str]:
    """An error's body as one line: its message, of what may be JSON with a traceback, or a page."""
    code, message = CODES.get(status, "INTERNAL_ERROR"), body.decode(errors="replace")
    try:
        tree = json.loads(body)
        code, message = str(tree.get("error_code", code)), str(tree.get("message", message))
    except (ValueError, AttributeError, RecursionError):
        if message.lstrip().startswith("<"):
            message = "the request could not be answered"
    return {"error_code": code, "message": " ".join(message.split())}


def pattern(route: str) -> str:
    """The regular expression of a route."""
    known = {"**": ".+", "*": "[^/]+"}
    return "".join(known.get(part) or re.escape(part) for part in re.split(r"(\*+)", route))


def headers(scope: Message, name: str) -> list[str]:
    """Every value of a header that came."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()]


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def event() -> Message:
        return waiting.pop() if waiting else await receive()

    return event


async def refuse(send: Send, status: int, why: str) -> None:
    """Send a refusal, worded as MLflow words its errors: its pages show them."""
    await answer(send, status, {"error_code": CODES[status], "message": why})


async def answer(send: Send, status: int, content: object) -> None:
    """Send JSON."""
    body = json.dumps(content).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
