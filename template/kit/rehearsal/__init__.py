"""The service under rising load, against links that hold it to its plans' limits.

`rehearse` starts a copy of the service on servers of its own, measures what one request of each
route costs, predicts from that which limit ends first and at what rate, and raises the load until
the service no longer follows. For development: the image has none of it.
"""

from kit.rehearsal._run import Limit, Report, parse_route, rehearse
from kit.rehearsal._running import Plan
