from decimal import Decimal

from sqlmodel import Session, select

from app.models.crate import Crate
from app.tasks.crates import weigh_crates


def test_crates_are_weighed_once(sync_db_session: Session) -> None:
    sync_db_session.add(Crate(label="A-1"))
    sync_db_session.commit()
    assert weigh_crates() == 1
    assert weigh_crates() == 0
    assert sync_db_session.exec(select(Crate)).one().weight == Decimal("0.75")
