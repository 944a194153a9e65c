"""Routes of blueprints."""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.blueprint import Blueprint, BlueprintInput

router = APIRouter(prefix="/blueprints", tags=["Blueprints"])


@router.post("", status_code=201)
async def create_blueprint(new: BlueprintInput, session: SessionDep) -> Blueprint:
    """Store a blueprint."""
    blueprint = Blueprint.model_validate(new)
    session.add(blueprint)
    await session.commit()
    return blueprint


@router.get("")
async def read_blueprints(session: ReadSessionDep) -> Sequence[Blueprint]:
    """Read the blueprints."""
    return (await session.exec(select(Blueprint).limit(100))).all()
