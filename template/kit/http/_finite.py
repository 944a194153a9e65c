"""Refuses what requests may not hold: numbers without an end, JSON without a bottom.

NaN and infinity, since JSON has no word for them, and could not answer with one: `kit.conventions`
does so for models. This does it for parameters and bodies that are no model, such as
`weight: float` or `list[float]`, and validates tables as bodies, which SQLModel alone does not.

pydantic's parser reads some 200 levels in every version of Python. To find and describe half a
million mistakes takes seconds and 700 MB, so the number of values and that of mistakes are limited.
"""

from codecs import BOM_UTF8
from http import HTTPStatus
from typing import Any

from fastapi._compat.v2 import ModelField
from pydantic import PydanticUserError, ValidationError
from pydantic_core import PydanticCustomError, from_json
from sqlmodel import SQLModel
from starlette import formparsers
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import Request

from kit.errors import Problem
from kit.settings import settings

BYTES_OF_A_VALUE = 16
"""A body may have one value for so many of the bytes that its route takes."""

FEW_VALUES = 1_000
"""Values, and descriptions of mistakes, that never cost much."""

_initialise = ModelField.__post_init__


def _initialise_finite(field: ModelField) -> None:
    is_free = field.mode == "validation" and field.config is None
    try:
        field.config = {"allow_inf_nan": False} if is_free else field.config
        _initialise(field)
    except PydanticUserError:
        if not is_free:
            raise
        field.config = None  # a model has its own
        _initialise(field)
    adapter: Any = field._type_adapter  # noqa: SLF001
    validate = adapter.validate_python
    model: Any = field.field_info.annotation
    is_model = isinstance(model, type) and issubclass(model, SQLModel)
    if field.mode == "validation" and is_model and hasattr(model, "__table__"):
        validate = model.model_validate  # pydantic alone makes the row, with whatever is sent

    def validate_briefly(value: Any, **options: Any) -> Any:
        try:
            return validate(value, **options)
        except ValidationError as error:
            if (count := error.error_count()) <= FEW_VALUES:
                raise
            kind = PydanticCustomError("too_many_mistakes", f"{count} values are wrong")
            entry: Any = {"type": kind}
            raise ValidationError.from_exception_data(error.title, [entry]) from None

    adapter.validate_python = validate_briefly


# FastAPI hands no configuration to the types of parameters.
ModelField.__post_init__ = _initialise_finite  # type: ignore[assignment,method-assign]


class MalformedJSONError(Problem, ValueError):
    """A body is no JSON, or too deep; a `ValueError` as that of Python's parser."""


async def _parse_json(request: Any) -> Any:
    if not hasattr(request, "_json"):
        body = await request.body()
        size = request.scope.get(MAX_BODY_SIZE_SCOPE_KEY, settings.API_MAX_BODY_SIZE)
        most = max(FEW_VALUES, size // BYTES_OF_A_VALUE)
        if body.count(b",") > most:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"Send at most {most:,} values, or commas, to this address.",
            )
        try:
            request._json = from_json(body.removeprefix(BOM_UTF8))  # noqa: SLF001
        except ValueError as error:
            entry = {"in": "body", "pointer": "", "detail": str(error), "code": "json_invalid"}
            # Without the body, which the error of Python's own parser keeps.
            raise MalformedJSONError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "The body is not valid JSON.", errors=[entry]
            ) from None
    return request._json  # noqa: SLF001


def _decode(text: bytes | bytearray, encoding: str) -> str:
    try:
        return text.decode(encoding)
    except (ValueError, LookupError):  # Starlette's own misses the errors of a few encodings
        return text.decode("latin-1")


Request.json = _parse_json  # type: ignore[assignment,method-assign]
formparsers._user_safe_decode = _decode  # type: ignore[assignment]  # noqa: SLF001
