"""The baseline of `api_reads`: the least that FastAPI does for a request. No database, no sign-in."""

from fastapi import FastAPI

app = FastAPI(openapi_url=None)


@app.get("/")
def answer() -> dict[str, str]:
    """Answer a constant, from the thread pool as our endpoints do."""
    return {"status": "ok"}
