"""What `make` and the image run: `python -m kit.commands.serve`."""
