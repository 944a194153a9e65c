"""An application of its own."""

from fastapi import FastAPI

legacy = FastAPI()


@legacy.get("/app")
def read_sub() -> dict[str, str]:
    """Answer."""
    return {"message": "Hello from a sub-application"}


@legacy.get("/broken")
def read_broken() -> None:
    """Fail."""
    raise ZeroDivisionError
