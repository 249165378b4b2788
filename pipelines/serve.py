"""HTTP service of an adapted model: returns class, probability and both branches' predictions of an uploaded image.

    python pipelines/serve.py model                                  # an export's or a run's folder
    curl -F file=@photo.jpg http://127.0.0.1:8000/predict            # or in a browser: http://127.0.0.1:8000/docs

Needs the extra [serve]. Bodies, pixels, decoding time, concurrent decodes and waiting requests are limited; images are
decoded in processes of their own. There is no authentication.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, HTTPException, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import unimos_pipe
from unimos_pipe.base.errors import UnimosPipeError
from unimos_pipe.base.malloc import trim_malloc
from unimos_pipe.deploy.decoder_process import DecoderPool, RefusedImageError

CLOSE = {"Connection": "close"}


@dataclass(frozen=True)
class Limits:
    """Limits of a service; requests beyond them get status 408, 413, 422 or 503."""

    max_bytes: int = 20_000_000  # of a body
    max_pixels: int = 50_000_000  # of an image
    jobs: int = 2  # images decoded and classified at the same time
    waiting: int = 32  # further images that wait for that
    connections: int = 200  # requests at the same time, uploads included
    body_seconds: float = 30.0  # until a body has arrived
    decode_seconds: float = 20.0


class BodyLimit:
    """ASGI middleware that ends bodies that are too large or too slow, with and without a declared length."""

    def __init__(self, app: ASGIApp, limits: Limits):
        self.app, self.limits, self.open_requests = app, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.open_requests += 1
        try:
            await self.app(scope, self._limited(scope, receive), send)
        finally:
            self.open_requests -= 1

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        limits, loop = self.limits, asyncio.get_running_loop()
        end, count, complete = loop.time() + limits.body_seconds, 0, False
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        busy = self.open_requests > limits.connections

        async def limited() -> Message:
            nonlocal count, complete
            if complete:
                return await receive()
            if busy:
                raise HTTPException(503, "too many requests at once; try again", {**CLOSE, "Retry-After": "1"})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    message = await receive()
            if loop.time() > end:
                raise HTTPException(408, f"no whole body within {limits.body_seconds:g} s", CLOSE)
            count += len(message.get("body", b""))
            if max(count, int(declared)) > limits.max_bytes:
                raise HTTPException(413, f"more than {limits.max_bytes:,} bytes", CLOSE)
            complete = not message.get("more_body", False)
            return message

        return limited


def make_app(model: unimos_pipe.AdaptedModel, limits: Limits = Limits()) -> FastAPI:
    """Return the service: GET / describes the model, POST /predict classifies a file."""
    decoders = DecoderPool(limits.jobs, limits.max_pixels)
    turns, waiting = asyncio.Semaphore(limits.jobs), 0

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        decoders.close()

    app = FastAPI(title="unimos-pipe", lifespan=lifespan)
    app.add_middleware(BodyLimit, limits=limits)
    about = {name: model.settings["about"][name] for name in ("dataset", "source", "target")}

    def classify(file: UploadFile) -> dict:
        try:
            pixels = decoders.decode(file.file.read(), limits.decode_seconds)
        except RefusedImageError as error:
            raise HTTPException(422, f"{file.filename}: {error}") from None
        (record,) = model.predict(pixels).records()
        del pixels
        trim_malloc()
        if error := record.pop("error"):
            raise HTTPException(422, f"{file.filename}: {error}")
        return record

    @app.get("/")
    def describe() -> dict:
        return {**about, "method": model.method, "classes": model.classes}

    @app.post("/predict")
    async def predict(file: UploadFile) -> dict:
        nonlocal waiting
        if waiting >= limits.waiting:
            raise HTTPException(503, f"{waiting} images wait already; try again", {"Retry-After": "1"})
        waiting += 1
        try:
            await turns.acquire()
        finally:
            waiting -= 1
        try:
            return await run_in_threadpool(classify, file)
        finally:
            turns.release()

    return app


def main() -> None:
    """Load the model and its encoder, then serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a finished run or an export")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--weights", help="the encoder's weights, if they were a file")
    parser.add_argument(
        "--max-pixels", type=int, default=Limits.max_pixels, help="largest image (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=Limits.jobs, help="images at the same time (default: %(default)s)")
    options = parser.parse_args()
    if options.max_pixels < 1 or options.jobs < 1:
        parser.error("--max-pixels and --jobs take a number of at least 1")
    try:
        model = unimos_pipe.load(options.model, options.device)
        model.encoder(options.weights)
    except UnimosPipeError as error:
        raise SystemExit(f"Error: {error}") from None
    app = make_app(model, Limits(max_pixels=options.max_pixels, jobs=options.jobs))
    uvicorn.run(app, host=options.host, port=options.port, timeout_keep_alive=5, h11_max_incomplete_event_size=65536)


if __name__ == "__main__":
    main()
