"""Programs that run with a rendered project's Python, in its folder."""
