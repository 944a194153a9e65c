"""The extension's settings, `HOTEL_…` in the environment and in `.env`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from app.core.config import ServiceSettings


class HotelSettings(ServiceSettings):
    """The settings of the extension."""

    model_config = SettingsConfigDict(env_prefix="HOTEL_")

    PAGE_SIZE: int = Field(
        50, ge=1, le=500, description="Most rooms, guests or bookings that one answer lists."
    )
    LONGEST_STAY: int = Field(
        60, ge=1, le=1000, description="Most nights that one booking may have."
    )
    FRONT_DESK_EMAIL: str | None = Field(
        None,
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="Address for the list of each day's arrivals; unset, it is not sent.",
    )


hotel_settings = HotelSettings.load()
