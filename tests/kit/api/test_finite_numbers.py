"""Requests have finite numbers alone, also where no model says so."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from kit.errors import setup_errors


class Weighed(BaseModel):
    weight: float


class Odd(BaseModel):
    model_config = ConfigDict(allow_inf_nan=True)

    weight: float


class OwnTables(SQLModel, registry=registry()):
    """Not among the service's."""


class WeighedRow(OwnTables, table=True):
    __tablename__ = "weighed_row_of_a_test"

    id: int | None = Field(default=None, primary_key=True)
    weight: float


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    setup_errors(app)

    @app.post("/model")
    def send_model(body: Weighed) -> None: ...

    @app.post("/odd")
    def send_odd(body: Odd) -> None: ...

    @app.post("/list")
    def send_list(body: list[float]) -> None: ...

    @app.post("/row")
    def send_row(body: WeighedRow) -> list[str]:
        return sorted(body.model_fields_set)

    @app.get("/{number}")
    def read(number: float, least: float = 0) -> None: ...

    return TestClient(app)


def status(client: TestClient, path: str, body: str) -> tuple[int, list[tuple[str, str]]]:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    errors = (answer.json() or {}).get("errors", [])
    return answer.status_code, [(error["pointer"], error["code"]) for error in errors]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/model", '{"weight": NaN}', "/weight"),
        ("/model", '{"weight": 1e999}', "/weight"),
        ("/list", "[1, 1e999]", "/1"),
        ("/list", '["-inf"]', "/0"),
        ("/row", '{"weight": 1e999}', "/weight"),
    ],
)
def test_in_a_body(client: TestClient, path: str, body: str, pointer: str) -> None:
    assert status(client, path, body) == (422, [(pointer, "finite_number")])


@pytest.mark.parametrize("path", ["/nan", "/1?least=inf", "/1e999"])
def test_in_a_path_or_query(client: TestClient, path: str) -> None:
    assert client.get(path).json()["errors"][0]["code"] == "finite_number"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [('{"id": {}, "weight": 1}', "/id"), ("{}", "/weight"), ("[]", "")],
)
def test_a_table_as_a_body_is_validated(client: TestClient, body: str, pointer: str) -> None:
    code, errors = status(client, "/row", body)
    assert (code, [place for place, _ in errors]) == (422, [pointer])


def test_others_are_taken(client: TestClient) -> None:
    assert client.post("/row", json={"weight": "1.5"}).json() == ["weight"]
    assert status(client, "/odd", '{"weight": NaN}') == (200, [])
    assert client.get("/1.5?least=1e300").status_code == 200
