"""What holds for every model that an owner declares."""

import math
from datetime import time

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from sqlmodel import SQLModel

from kit.conventions import LocalTime
from kit.models import AuditEntry


class Plain(BaseModel):
    weight: float
    others: list[float | None] = []


class PlainSQLModel(SQLModel):
    weight: float


class Odd(BaseModel):
    model_config = ConfigDict(allow_inf_nan=True)

    weight: float


@pytest.mark.parametrize("model", [Plain, PlainSQLModel])
@pytest.mark.parametrize("value", [math.nan, -math.inf, "NaN", "1e999"])
def test_numbers_that_json_cannot_say_are_refused(
    model: type[BaseModel], value: float | str
) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        model.model_validate({"weight": value})


def test_a_time_of_day_has_no_zone() -> None:
    local = TypeAdapter(LocalTime)
    assert local.validate_python("08:30:00") == time(8, 30)
    with pytest.raises(ValidationError, match="without a time zone"):
        local.validate_python("08:30:00+02:00")
    assert "format" not in local.json_schema()


def test_they_are_refused_within_lists_and_generic_types() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        TypeAdapter(list[Plain]).validate_python([{"weight": 1, "others": [None, math.inf]}])


def test_a_model_may_allow_them() -> None:
    assert math.isnan(Odd.model_validate({"weight": math.nan}).weight)


def test_tables_follow() -> None:
    assert AuditEntry.model_config.get("allow_inf_nan") is False
