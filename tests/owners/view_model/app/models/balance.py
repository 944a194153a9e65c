"""What each customer owes."""

from decimal import Decimal
from typing import ClassVar

from sqlalchemy import MetaData
from sqlmodel import Field, SQLModel


class Balance(SQLModel, table=True):
    """A row of the view `balance`, which a revision makes."""

    metadata: ClassVar[MetaData] = MetaData()

    customer_id: int = Field(primary_key=True)
    owed: Decimal
