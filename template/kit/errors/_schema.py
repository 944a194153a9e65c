"""The problem document in the OpenAPI schema, so that the API's documentation shows it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

PROBLEM_MEDIA_TYPE = "application/problem+json"
_REFERENCE = "#/components/schemas/{model}"
_FASTAPI_SCHEMAS = ("HTTPValidationError", "ValidationError")


class ProblemError(BaseModel):
    """One mistake in a request."""

    place: Literal["body", "query", "path", "header", "cookie"] = Field(
        alias="in", description="Part of the request that holds the mistake."
    )
    pointer: str = Field(
        description="JSON pointer to the mistake within that part.", examples=["/items/0/name"]
    )
    detail: str = Field(description="What is wrong.", examples=["Field required"])
    code: str = Field(description="The rule that was broken.", examples=["missing"])


class ProblemDetails(BaseModel):
    """The body of every error: problem details for HTTP APIs, RFC 9457."""

    type: str = Field(
        description="URI of the kind of problem; about:blank where the status is enough.",
        examples=["about:blank"],
    )
    title: str = Field(description="The kind of problem, in words.", examples=["Not Found"])
    status: int = Field(description="The HTTP status.", ge=400, le=599, examples=[404])
    detail: str = Field(description="What is wrong with this request.")
    instance: str = Field(description="Path of the request.", examples=["/api/tasks/1"])
    request_id: str = Field(description="Names this request in the service's log.")
    errors: list[ProblemError] = Field(
        default_factory=list, description="Every mistake, where a request does not validate."
    )


def document_problems(schema: dict[str, Any]) -> None:
    """Add the problem document to an OpenAPI schema, for each operation's errors.

    OpenAPI's `default` stands for every status that is not listed; FastAPI's own description of
    422 would be wrong here and is replaced.
    """
    own = ProblemDetails.model_json_schema(by_alias=True, ref_template=_REFERENCE)
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in _FASTAPI_SCHEMAS:
        schemas.pop(name, None)
    schemas |= own.pop("$defs")
    schemas["ProblemDetails"] = own
    reference = {"$ref": _REFERENCE.format(model="ProblemDetails")}
    content = {PROBLEM_MEDIA_TYPE: {"schema": reference}}
    for path in schema["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            if "422" in responses:
                responses["422"] = {"description": "Validation error", "content": content}
            responses.setdefault("default", {"description": "Any other error", "content": content})
