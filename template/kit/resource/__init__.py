"""Writes a resource: from a line that describes its fields to a tested endpoint.

What it writes is the service's own from then on, and needs nothing of this room.
"""

from kit.resource._fields import EXAMPLE
from kit.resource._kinds import KINDS
from kit.resource._writing import Request, write_resource
