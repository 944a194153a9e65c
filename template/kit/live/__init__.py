"""What the service is doing, live on the start page of a developer's machine; nothing elsewhere."""

from kit.live._board import Panel, Row
from kit.live._pages import setup_live
