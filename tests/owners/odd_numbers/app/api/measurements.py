"""Routes of measurements."""

from collections.abc import Sequence
from decimal import Decimal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.measurement import Measurement

router = APIRouter(prefix="/measurements", tags=["Measurements"])


class NewMeasurement(BaseModel):
    """What a client sends."""

    weight: float
    price: Decimal
    count: int
    note: str


@router.post("", status_code=201)
async def create_measurement(new: NewMeasurement, session: SessionDep) -> Measurement:
    """Store a measurement."""
    measurement = Measurement(**new.model_dump())
    session.add(measurement)
    await session.commit()
    return measurement


@router.post("/row", status_code=201)
async def create_row(measurement: Measurement, session: SessionDep) -> Measurement:
    """Store a measurement as it comes."""
    session.add(measurement)
    await session.commit()
    return measurement


@router.post("/list", status_code=201)
async def create_several(weights: list[float], session: SessionDep) -> int:
    """Store several weights."""
    for weight in weights:
        session.add(Measurement(weight=weight, price=Decimal(1), count=1, note=""))
    await session.commit()
    return len(weights)


@router.post("/weighed/{weight}", status_code=201)
async def create_weighed(weight: float, session: SessionDep) -> Measurement:
    """Store a weight."""
    measurement = Measurement(weight=weight, price=Decimal(1), count=1, note="")
    session.add(measurement)
    await session.commit()
    return measurement


@router.get("")
async def read_measurements(
    session: ReadSessionDep, heavier: float = 0, after: int = 0
) -> Sequence[Measurement]:
    """Read the heavier ones."""
    statement = (
        select(Measurement)
        .where(col(Measurement.weight) > heavier, col(Measurement.id) > after)
        .limit(10)
    )
    return (await session.exec(statement)).all()
