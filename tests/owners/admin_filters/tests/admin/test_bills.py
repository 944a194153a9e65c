"""What each filter of the list leaves."""

import re
from datetime import date
from decimal import Decimal

import httpx
import pytest
from sqlmodel import Session

from app.models.bill import Bill, BillState, Payer


@pytest.fixture
def payer(sync_db_session: Session) -> Payer:
    payer = Payer(name="Ada", town="Turin")
    sync_db_session.add(payer)
    sync_db_session.flush()
    for number in range(3):
        bill = Bill(
            number=f"B-{number}",
            is_paid=number == 1,
            state=BillState.SENT if number == 2 else BillState.OPEN,
            channel="web" if number else "post",
            total=Decimal(number),
            issued_on=date(2026, 11, 1 + number),
            payer_id=payer.id or 0,
        )
        sync_db_session.add(bill)
    sync_db_session.commit()
    return payer


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("is_paid=true", ["B-1"]),
        ("state=SENT", ["B-2"]),
        ("channel=post", ["B-0"]),
        ("total_op=greater_than&total=0", ["B-1", "B-2"]),
        ("payer_id={id}", ["B-0", "B-1", "B-2"]),
        ("payer_id=0", []),
        ("search=ada", ["B-0", "B-1", "B-2"]),
        ("sortBy=payer.name&sort=asc", ["B-0", "B-1", "B-2"]),
    ],
)
async def test_filters(
    admin_client: httpx.AsyncClient, payer: Payer, query: str, left: list[str]
) -> None:
    answer = await admin_client.get(f"/admin/bill/list?{query.format(id=payer.id)}")

    assert answer.status_code == 200
    assert sorted(set(re.findall(r"B-\d", answer.text))) == left


@pytest.mark.parametrize("query", ["payer_id=abc", "payer_id=%C2%B2", "payer_id=1e999"])
async def test_what_does_not_fit_is_said(
    admin_client: httpx.AsyncClient, payer: Payer, query: str
) -> None:
    answer = await admin_client.get(f"/admin/bill/list?{query}")

    assert answer.status_code == 400
    assert "does not fit its column" in answer.text
