"""Routes of recipes."""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.recipe import Recipe, RecipeInput

router = APIRouter(prefix="/recipes", tags=["Recipes"])


@router.post("", status_code=201)
async def create_recipe(new: RecipeInput, session: SessionDep) -> Recipe:
    """Store a recipe."""
    recipe = Recipe.model_validate(new)
    session.add(recipe)
    await session.commit()
    return recipe


@router.get("")
async def read_recipes(session: ReadSessionDep) -> Sequence[Recipe]:
    """Read the recipes."""
    return (await session.exec(select(Recipe).limit(100))).all()
