"""Teams over the API."""

from http import HTTPStatus

from fastapi import APIRouter
from sqlmodel import SQLModel

from app.core.dependencies import SessionDep
from app.models.team import Player, Team

router = APIRouter(prefix="/teams", tags=["Teams"])


class NewTeam(SQLModel):
    """A team and the names of its players, the captain first."""

    name: str
    players: list[str]


@router.post("", status_code=HTTPStatus.CREATED)
async def found_team(session: SessionDep, new: NewTeam) -> Team:
    """Found a team."""
    session.add(team := Team(name=new.name))
    await session.flush()
    values = [{"name": name, "team_id": team.id} for name in new.players[:20]]
    session.add_all(players := [Player.model_validate(each) for each in values])
    await session.flush()
    team.captain_id = players[0].id if players else None
    await session.commit()
    await session.refresh(team)
    return team
