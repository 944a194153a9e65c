"""Teams, their players, and the player who is a team's captain."""

from sqlalchemy import Column, ForeignKey, Integer
from sqlmodel import Field, Relationship, SQLModel


class Team(SQLModel, table=True):
    """A team. Its captain and its keeper are players of it, so the tables refer to each other."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(min_length=1, max_length=50, unique=True)
    captain_id: int | None = Field(default=None, foreign_key="player.id", ondelete="SET NULL")
    keeper_id: int | None = Field(
        default=None,
        sa_column=Column(
            Integer, ForeignKey("player.id", name="fk_team_keeper_id_player", use_alter=True)
        ),
    )
    players: list["Player"] = Relationship(
        back_populates="team", sa_relationship_kwargs={"foreign_keys": "Player.team_id"}
    )
    captain: "Player" = Relationship(
        sa_relationship_kwargs={"foreign_keys": "Team.captain_id", "post_update": True}
    )

    def __str__(self) -> str:
        return self.name


class Player(SQLModel, table=True):
    """A player of a team."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(min_length=1, max_length=50)
    team_id: int = Field(foreign_key="team.id")
    team: Team = Relationship(
        back_populates="players", sa_relationship_kwargs={"foreign_keys": "Player.team_id"}
    )

    def __str__(self) -> str:
        return self.name
