"""What `make` and the image run: `python -m kit.commands.serve`."""

from kit.commands._session import command_session
