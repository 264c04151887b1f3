"""The application: addresses, and what answers them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sise_ort import __version__
from sise_ort.errors import SiseError
from sise_ort.line.server import protocol_v1, protocol_v2
from sise_ort.line.server.access import Access
from sise_ort.line.server.manual import described, docs_page
from sise_ort.line.server.memory import Share
from sise_ort.line.server.metrics import Metrics
from sise_ort.line.server.models import Model, Models, Options
from sise_ort.line.server.refusal import Refusal, refusal_of
from sise_ort.line.server.settings import Settings
from sise_ort.pages import render

Answering = Callable[[Request, Model, Settings, Share], Awaitable[Response]]


def serve_app(options: Options, settings: Settings | None = None, token: str | None = None) -> FastAPI:
    """The server as an ASGI application, for uvicorn or another server; bundles are loaded when it starts.

    Parameters
    ----------
    options : Options
        The bundles, and how they are loaded.
    settings : Settings, optional
        What the server allows.
    token : str, optional
        The bearer token that requests must bear. Without one, only requests to localhost are answered.

    Returns
    -------
    FastAPI
    """
    allowed, metrics = settings or Settings(), Metrics()
    return application(lambda: Models(options, allowed, metrics), allowed, token, metrics)


def application(
    load: Callable[[], Models], settings: Settings, token: str | None, metrics: Metrics
) -> FastAPI:
    """The application for models that are loaded when it starts, and closed when it ends; see `serve_app`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.models = await anyio.to_thread.run_sync(load)
        yield
        await anyio.to_thread.run_sync(app.state.models.close)

    app = FastAPI(title="sise-ort", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Access, token=token, metrics=metrics)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(SiseError, _refused)
    app.add_exception_handler(Exception, _refused)
    _pages(app, metrics, needs_token=token is not None)
    _v1(app, settings)
    _v2(app, settings)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    found = refusal_of(error)
    return JSONResponse(found.body(), found.status, headers=found.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = (
        "there is nothing at this address; /docs lists what there is"
        if error.status_code == 404
        else error.detail
    )
    return JSONResponse({"error": text}, error.status_code, headers=error.headers)


def _label(request: Request, model: str, kind: str) -> None:
    """Say which model is asked what, for the metrics; only names of models that there are."""
    request.scope["state"]["label"] = (model, kind)


def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


def _page(name: str, **values: Any) -> Response:
    """A page that runs its own script only, and asks nothing of other servers."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(
        render(name, nonce=nonce, **values), media_type="text/html; charset=utf-8", headers=headers
    )


def _pages(app: FastAPI, metrics: Metrics, needs_token: bool) -> None:
    @app.get(
        "/", summary="A page to drop a picture on; for programs, whether the server is alive", tags=["pages"]
    )
    async def home(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return _page("serve.html", title="Explain a picture", needs_token=needs_token)
        return JSONResponse({"status": "alive"})

    @app.get("/docs", summary="All addresses, on a page that needs no internet", tags=["pages"])
    async def docs() -> Response:
        return _page("serve_docs.html", title="sise-ort: addresses", groups=docs_page(app.openapi()))

    @app.get("/metrics", summary="Counters and times for Prometheus", tags=["pages"])
    async def numbers() -> Response:
        text = await anyio.to_thread.run_sync(metrics.page)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _v1(app: FastAPI, settings: Settings) -> None:
    async def answered(request: Request, name: str, kind: str, answering: Answering) -> Response:
        models = _models(request)
        model = models.get(name)
        _label(request, name, kind)
        with Share(models.memory) as share:
            return await answering(request, model, settings, share)

    @app.get("/v1/models", summary="Names of the models", tags=["V1"])
    async def models(request: Request) -> Response:
        return JSONResponse({"models": _models(request).names})

    @app.get("/v1/models/{name}", summary="Whether a model is ready", tags=["V1"])
    async def ready(request: Request, name: str) -> Response:
        _models(request).get(name)
        return JSONResponse({"name": name, "ready": True})

    @app.post(
        "/v1/models/{name}:predict", summary="The network's answers to pictures", **described("predict")
    )
    async def predict(request: Request, name: str) -> Response:
        return await answered(request, name, "predict", protocol_v1.predict)

    @app.post(
        "/v1/models/{name}:explain", summary="Heat maps of the network's decisions", **described("explain")
    )
    async def explain(request: Request, name: str) -> Response:
        return await answered(request, name, "explain", protocol_v1.explain)


def _v2(app: FastAPI, settings: Settings) -> None:
    @app.get("/v2", summary="What the server is", tags=["V2"])
    async def server() -> Response:
        return JSONResponse(protocol_v2.server_metadata())

    @app.get("/v2/health/live", summary="Whether the server runs", tags=["V2"])
    async def live() -> Response:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready", summary="Whether all models are loaded", tags=["V2"])
    async def server_ready() -> Response:
        return JSONResponse({"ready": True})

    @app.get("/v2/models/{name}", summary="A model's inputs and outputs", tags=["V2"])
    async def metadata(request: Request, name: str) -> Response:
        return JSONResponse(protocol_v2.metadata(*protocol_v2.split_name(_models(request), name)))

    @app.get("/v2/models/{name}/ready", summary="Whether a model is ready", tags=["V2"])
    async def model_ready(request: Request, name: str) -> Response:
        protocol_v2.split_name(_models(request), name)
        return JSONResponse({"name": name, "ready": True})

    @app.post(
        "/v2/models/{name}/infer",
        summary="Predictions of NAME, explanations of NAME-explain",
        **described("infer"),
    )
    async def infer(request: Request, name: str) -> Response:
        models = _models(request)
        model, explains = protocol_v2.split_name(models, name)
        _label(request, model.name, "explain" if explains else "predict")
        with Share(models.memory) as share:
            return await protocol_v2.infer(request, models, name, settings, share)
