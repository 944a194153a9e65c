"""Refuses NaN and infinity in requests: JSON has no word for them, and could not answer with one.

`kit.conventions` does so for models. This does it for parameters and bodies that are no model, such
as `weight: float` or `list[float]`, and for tables as bodies, which SQLModel does not validate.
"""

from decimal import Decimal
from math import isfinite
from typing import Any

from fastapi._compat.v2 import ModelField
from pydantic import AfterValidator, PydanticUserError
from pydantic_core import PydanticKnownError
from sqlmodel import SQLModel

_initialise = ModelField.__post_init__


def _initialise_finite(field: ModelField) -> None:
    annotation = field.field_info.annotation
    if field.mode == "validation" and field.config is None:
        if isinstance(annotation, type) and issubclass(annotation, SQLModel):
            field.field_info.metadata.append(AfterValidator(_refuse_infinite))
        try:
            field.config = {"allow_inf_nan": False}
            return _initialise(field)
        except PydanticUserError:
            field.config = None  # a model has its own
    return _initialise(field)


def _refuse_infinite(row: Any) -> Any:
    for value in vars(row).values():
        if isinstance(value, float | Decimal) and not isfinite(value):
            raise PydanticKnownError("finite_number")
    return row


# FastAPI hands no configuration to the types of parameters.
ModelField.__post_init__ = _initialise_finite  # type: ignore[assignment,method-assign]
