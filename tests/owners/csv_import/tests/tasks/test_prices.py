"""The import of price lists."""

from decimal import Decimal

import pytest
from sqlmodel import Session, col, select

from app.models.price import Price, PriceLine, PriceList
from app.tasks import prices
from app.tasks.prices import import_batch, import_prices


@pytest.fixture
def sent(sync_db_session: Session) -> int:
    """A list whose second, third and fourth line are wrong."""
    price_list = PriceList(name="a.csv", lines=6)
    sync_db_session.add(price_list)
    sync_db_session.flush()
    assert price_list.id is not None
    texts = ["A-1;2.50", "A-2;much", "A-3", "", "A-1;3.50", "A-4;4.50"]
    for number, text in enumerate(texts, 1):
        sync_db_session.add(PriceLine(list_id=price_list.id, number=number, text=text))
    sync_db_session.commit()
    return price_list.id


def check(session: Session) -> None:
    session.expire_all()
    stored = {price.article: price.amount for price in session.exec(select(Price))}
    assert stored == {"A-1": Decimal("3.50"), "A-4": Decimal("4.50")}
    left = session.exec(select(PriceLine).order_by(col(PriceLine.number))).all()
    assert [(line.number, line.mistake) for line in left] == [
        (2, "amount: Input should be a valid decimal"),
        (3, "1 fields instead of 2"),
        (4, "0 fields instead of 2"),
    ]


def test_lines_are_imported_and_mistakes_are_kept(sync_db_session: Session, sent: int) -> None:
    assert import_prices.apply((sent,)).get() == 6
    check(sync_db_session)


def test_it_goes_on_where_another_run_was_lost_and_may_run_twice(
    sync_db_session: Session, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "BATCH", 2)
    assert import_batch(sent) == 2
    assert import_prices.apply((sent,)).get() == 4
    assert import_prices.apply((sent,)).get() == 0
    check(sync_db_session)
