"""Where mails are handed in."""

from pydantic import BaseModel, Field


class Smtp(BaseModel):
    """The mail server, `SMTP__…` in the environment and in `.env`."""

    HOST: str = Field("localhost", description="Server that takes mails.")
    RECIPIENTS: list[str] = Field([], description="Who gets the daily report.")
