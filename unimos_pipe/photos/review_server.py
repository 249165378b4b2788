"""The review page: a web service for one person on 127.0.0.1, behind a secret token in the address.

Requests name photos by row number, never by path. A request whose Host header is another machine's name is refused, so
that no web page can reach the service through a name that it makes point here.
"""

import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from unimos_pipe.base.errors import InputError, UnimosPipeError
from unimos_pipe.base.safe_open import read_text
from unimos_pipe.photos.review_session import Decision, ReviewSession
from unimos_pipe.photos.thumbnail_cache import ThumbnailCache

HOST = "127.0.0.1"
PAGE = Path(__file__).parent / "page"
PAGE_FILES = (  # path below the token, file, media type
    ("", "review.html", "text/html"),
    ("review.css", "review.css", "text/css"),
    ("review.js", "review.js", "text/javascript"),
)
THUMBNAIL, LARGE = 256, 1280  # pixels of the longer side
CLOSING = 1  # seconds that open requests have at the end
MAX_BODY = 10_000  # bytes of a request
DECODERS = 2  # photos that are decoded at the same time
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class DecisionBody(BaseModel):
    """A decision as the page sends it."""

    row: int
    label: str = Field(max_length=1000)


class ReviewServer:
    """The service of a session, bound to a port of 127.0.0.1. :meth:`serve` runs until :meth:`stop` or Ctrl-C."""

    def __init__(self, session: ReviewSession, cache: Path, commands: list[str], port: int = 0):
        self.token = secrets.token_urlsafe(24)
        self._socket = _bind(port)
        self.port = self._socket.getsockname()[1]
        self.finished = False  # True once the page has asked for the run to be made again
        app = make_app(session, ThumbnailCache(cache), commands, self.token, self.port, self._finish)
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=CLOSING,
        )
        self._server = uvicorn.Server(config)

    @property
    def address(self) -> str:
        """The page's address, with its token."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer requests until the service is stopped or the waiting thread is interrupted.

        The work is done in a thread of its own: uvicorn in the main thread would take over Ctrl-C.
        """
        worker = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        worker.start()
        try:
            worker.join()
        finally:
            self.stop()
            worker.join(2 * CLOSING)
            self._socket.close()

    def _finish(self) -> None:
        self.finished = True
        self.stop()

    def stop(self) -> None:
        """End :meth:`serve`; open requests are finished."""
        self._server.should_exit = True


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
        bound.listen()  # a browser that is faster than the service waits
    except OSError as error:
        bound.close()
        raise InputError(f"port {port} of {HOST}: {error.strerror}", todo="Choose another port, or 0 for any") from None
    return bound


def make_app(
    session: ReviewSession,
    thumbnails: ThumbnailCache,
    commands: list[str],
    token: str,
    port: int,
    on_finish: Callable[[], None],
) -> FastAPI:
    """Return the service of a session.

    Args:
        commands: command lines that adapt again with the labels, for the page.
        token: the secret in the address.
        port: of the address, for the check of the Host header.
        on_finish: called when the page asks to end the review and to adapt again.
    """

    def check_token(given: str) -> None:
        if not secrets.compare_digest(given.encode(), token.encode()):
            raise HTTPException(404)

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_guard({f"{HOST}:{port}", f"localhost:{port}"}))
    app.exception_handler(UnimosPipeError)(_answer_error)
    router = APIRouter(prefix="/{given}", dependencies=[Depends(check_token)])
    for path, name, media_type in PAGE_FILES:
        router.get(f"/{path}")(partial(_send_file, PAGE / name, media_type))
    _add_label_routes(router, session, commands, on_finish)
    _add_image_routes(router, session, thumbnails)
    app.include_router(router)
    return app


def _add_label_routes(
    router: APIRouter, session: ReviewSession, commands: list[str], on_finish: Callable[[], None]
) -> None:
    @router.get("/photos")
    def photos() -> Response:
        title = f"{session.photos.run.spec.source} → {session.photos.run.spec.target}"
        return JSONResponse(
            {**session.table(), "scores": asdict(session.scores()), "title": title, "commands": commands}
        )

    @router.get("/changes")
    def changes(since: int) -> Response:
        return JSONResponse(_state(session, since))

    @router.post("/labels")
    def decide(body: DecisionBody, since: int) -> Response:
        session.decide(body.row, body.label)
        return JSONResponse(_state(session, since))

    @router.post("/undo")
    def undo(since: int) -> Response:
        return JSONResponse(_state(session, since, session.undo()))

    @router.post("/finish")
    def finish() -> Response:
        on_finish()
        return JSONResponse({})


def _add_image_routes(router: APIRouter, session: ReviewSession, thumbnails: ThumbnailCache) -> None:
    decoding = threading.Semaphore(DECODERS)

    @router.get("/thumbnail/{row}")
    def thumbnail(row: int) -> Response:
        with decoding:
            return _image(session, thumbnails, row, THUMBNAIL)

    @router.get("/large/{row}")
    def large(row: int) -> Response:
        with decoding:
            return _image(session, thumbnails, row, LARGE)


def _answer_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 409)


def _send_file(file: Path, media_type: str) -> Response:
    return Response(read_text(file), media_type=media_type)


def _guard(hosts: set[str]) -> Callable[[Request, Callable], Awaitable[Response]]:
    """Return the middleware that refuses other hosts, other origins and large bodies, and adds the headers."""

    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        length = request.headers.get("content-length", "0" if request.method == "GET" else "")
        if host not in hosts or (origin is not None and origin.removeprefix("http://") != host):
            response: Response = PlainTextResponse("another host", 403)
        elif not length.isdecimal() or int(length) > MAX_BODY:
            response = PlainTextResponse("too large", 413)
        else:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return guard


def _state(session: ReviewSession, since: int, undone: Decision | None = None) -> dict:
    """Return what a page needs to catch up: the version, the changed labels by row, the scores, the undone row."""
    version, labels = session.changes_since(since)
    row = undone.row if undone else None
    return {"version": version, "labels": labels, "scores": asdict(session.scores()), "undone": row}


def _image(session: ReviewSession, thumbnails: ThumbnailCache, row: int, side: int) -> Response:
    path = session.path(row)
    if path is None:
        raise HTTPException(404)
    try:
        content = thumbnails.get(path, side)
    except Exception:  # decoders raise any type; the page shows the photo's name in its place
        raise HTTPException(404) from None
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
