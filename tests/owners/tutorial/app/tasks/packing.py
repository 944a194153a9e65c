"""Packing orders, in the background."""

import logging

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.core.task_context import get_task_id
from app.models.order import Order

logger = logging.getLogger(__name__)


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.pack")
def pack(order_id: int) -> bool:
    """Pack an order; false when it is gone."""
    with sync_session_maker() as session:
        order = session.get(Order, order_id)
        if order is None:
            return False
        order.is_packed = True
        session.commit()
    logger.info("%spacked order %s", get_task_id(), order_id)
    return True
