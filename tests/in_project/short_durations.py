"""Schemathesis makes durations up that are shorter than a year.

Pydantic writes longer ones as P1Y35D, for which RFC 3339 has no form.
"""

import schemathesis
from hypothesis import strategies as st

DAY = 24 * 60 * 60

schemathesis.openapi.format("duration", st.integers(0, 364 * DAY).map("PT{}S".format))
