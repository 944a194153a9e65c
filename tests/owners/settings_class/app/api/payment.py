"""The payment provider."""

from fastapi import APIRouter

from app.core.payment import payment_settings

router = APIRouter(prefix="/payment", tags=["Payment"])


@router.get("")
async def read_payment() -> dict[str, int]:
    """Show what is configured, without the key."""
    length = len(payment_settings.key.get_secret_value())
    return {"key_length": length, "times": payment_settings.retry.times}
