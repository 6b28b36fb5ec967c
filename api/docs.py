"""`/docs` without a network: swagger-ui comes from files that the package brings."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import HTMLResponse

STATIC = Path(__file__).parent / "static"
_BUNDLE = Path("vendor/swagger-ui/swagger-ui-bundle.js")
_STYLE = Path("vendor/swagger-ui/swagger-ui.css")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Dormpower API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/static/{style}"></head>
<body><div id="swagger-ui"></div>
<script src="/static/{bundle}"></script><script src="/static/docs.js"></script></body></html>
"""
_MISSING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Dormpower API</title></head>
<body><h1>Dormpower API</h1>
<p>This installation was made without the browsable documentation (swagger-ui). Install the package again with
its build step, which brings it; the description itself is at <a href="/openapi.json">/openapi.json</a>.</p>
</body></html>
"""


def install(app: FastAPI) -> None:
    """Add `/docs`."""

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    def docs() -> HTMLResponse:
        """Return the page; where the files are missing, one that says so."""
        present = (STATIC / _BUNDLE).is_file() and (STATIC / _STYLE).is_file()
        page = _PAGE.format(bundle=_BUNDLE, style=_STYLE) if present else _MISSING
        return HTMLResponse(page)
