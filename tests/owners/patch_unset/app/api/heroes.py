"""Routes of heroes."""

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.hero import Hero, HeroCreate, HeroPublic, HeroUpdate

router = APIRouter(prefix="/heroes", tags=["Heroes"])


class Card(BaseModel):
    """A hero's card."""

    name: str
    motto: str | None = "Onwards"


@router.post("", status_code=201, response_model=HeroPublic)
async def create_hero(hero: HeroCreate, session: SessionDep) -> Hero:
    """Create a hero."""
    db_hero = Hero.model_validate(hero)
    session.add(db_hero)
    await session.commit()
    await session.refresh(db_hero)
    return db_hero


@router.get("/{hero_id}", response_model=HeroPublic)
async def read_hero(hero_id: int, session: ReadSessionDep) -> Hero:
    """Read a hero."""
    hero = await session.get(Hero, hero_id)
    if not hero:
        raise HTTPException(status_code=404, detail="Hero not found")
    return hero


@router.get("/{hero_id}/card", response_model_exclude_unset=True)
async def read_card(hero_id: int, session: ReadSessionDep) -> Card:
    """Read a hero's card."""
    hero = await session.get_one(Hero, hero_id)
    return Card(name=hero.name)


@router.patch("/{hero_id}", response_model=HeroPublic)
async def update_hero(hero_id: int, hero: HeroUpdate, session: SessionDep) -> Hero:
    """Change what is sent."""
    db_hero = await session.get(Hero, hero_id)
    if not db_hero:
        raise HTTPException(status_code=404, detail="Hero not found")
    db_hero.sqlmodel_update(hero.model_dump(exclude_unset=True))
    session.add(db_hero)
    await session.commit()
    await session.refresh(db_hero)
    return db_hero


@router.delete("/{hero_id}", status_code=204)
async def delete_hero(hero_id: int, session: SessionDep) -> None:
    """Delete a hero."""
    hero = await session.get(Hero, hero_id)
    if not hero:
        raise HTTPException(status_code=404, detail="Hero not found")
    await session.delete(hero)
    await session.commit()
