"""Many transactions at once on the service's own engine; prints how many went wrong, as JSON.

Run in several processes by `test_pooler.py`. The statements differ in shape and number of
parameters from process to process, so that a statement prepared by one and run by another gives an
error or a wrong row.
"""

import asyncio
import json
import os
import sys
from collections import Counter

from sqlalchemy import Integer, Text, cast, literal, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.database import async_session_maker, engine, read_session_maker

COROUTINES = 50
TRANSACTIONS_EACH = 4


async def one_transaction(session: AsyncSession, number: int) -> str:
    """`right`, or `wrong row`: reads back what was sent, in statements of several shapes."""
    shape = (number + os.getpid()) % 3
    numbers = [number * 10 + position for position in range(shape + 2)]
    columns = [cast(literal(n), Integer) for n in numbers]
    connection = await session.connection()
    row = (await connection.execute(select(*columns))).one()
    text = f"{os.getpid()}-{number}"
    echo = await session.scalar(select(cast(literal(text), Text)).where(literal(number) == number))
    await session.commit()
    return "right" if list(row) == numbers and echo == text else "wrong row"


async def several_transactions(coroutine: int, outcomes: Counter[str]) -> None:
    """One caller's transactions, one after the other, each in a session of its own."""
    maker = read_session_maker if sys.argv[1] == "autocommit" else async_session_maker
    for turn in range(TRANSACTIONS_EACH):
        try:
            async with maker() as session:
                outcomes[await one_transaction(session, coroutine * 100 + turn)] += 1
        except Exception as error:  # noqa: BLE001 (whatever goes wrong is what is counted)
            outcomes[f"{type(error).__name__}: {str(error).splitlines()[0]}"] += 1


async def main() -> None:
    """All callers at once."""
    outcomes: Counter[str] = Counter()
    await asyncio.gather(*(several_transactions(n, outcomes) for n in range(COROUTINES)))
    await engine.dispose()
    print(json.dumps(outcomes))  # noqa: T201 (the result)


asyncio.run(main())
