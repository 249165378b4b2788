"""HTTP service of an adapted model: returns class, probability and both branches' predictions of an uploaded image.

    python pipelines/serve.py model                                  # an export's or a run's folder
    curl -F file=@photo.jpg http://127.0.0.1:8000/predict            # or in a browser: http://127.0.0.1:8000/docs

Needs the extra [serve]. Requests are answered by several threads that share one model.
"""

import argparse

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.responses import JSONResponse

import unimos_pipe
from unimos_pipe.base.errors import UnimosPipeError

MAX_BYTES = 20_000_000  # largest upload


def make_app(model: unimos_pipe.AdaptedModel, max_bytes: int = MAX_BYTES) -> FastAPI:
    """Return the service: GET / describes the model, POST /predict classifies a file."""
    app = FastAPI(title="unimos-pipe")
    about = {name: model.settings["about"][name] for name in ("dataset", "source", "target")}

    @app.middleware("http")
    async def refuse_large(request: Request, call_next) -> Response:
        """Refuse a body by its Content-Length before it is read; the server reads no more than that."""
        length = request.headers.get("content-length", "0" if request.method == "GET" else "")
        if not length.isdecimal():
            return JSONResponse({"detail": "Content-Length is missing"}, 411)
        if int(length) > max_bytes:
            return JSONResponse({"detail": f"more than {max_bytes:,} bytes"}, 413)
        return await call_next(request)

    @app.get("/")
    def describe() -> dict:
        return {**about, "method": model.method, "classes": model.classes}

    @app.post("/predict")
    def predict(file: UploadFile) -> dict:
        (record,) = model.predict(file.file.read()).records()
        if error := record.pop("error"):
            raise HTTPException(422, f"{file.filename}: {error}")
        return record

    return app


def main() -> None:
    """Load the model and its encoder, then serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a finished run or an export")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--weights", help="the encoder's weights, if they were a file")
    options = parser.parse_args()
    try:
        model = unimos_pipe.load(options.model, options.device)
        model.encoder(options.weights)
    except UnimosPipeError as error:
        raise SystemExit(f"Error: {error}") from None
    uvicorn.run(make_app(model), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
