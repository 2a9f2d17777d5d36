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
CODES = {403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND", 413: "REQUEST_LIMIT_EXCEEDED"}


class Door:
    """An ASGI application that passes on to `application` only what `routes` list.

    A route is a method and a path, `GET /runs/*/files/**`: `*` is any text without a slash, `**`
    any text. `answers` are given to requests in the application's place. A body may have `limit`
    bytes, with or without an announced length.
    """

    def __init__(
        self,
        application: Application,
        routes: Iterable[str],
        *,
        limit: int,
        answers: Mapping[str, object] | None = None,
    ) -> None:
        """Read the routes once."""
        self.application = application
        self.routes = re.compile("|".join(map(pattern, routes)))
        self.limit = limit
        self.answers = answers or {}

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
        else:
            await self.application(scope, replayed(body, receive), send)

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
