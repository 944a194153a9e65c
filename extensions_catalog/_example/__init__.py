"""Notes, whose words are counted in the background."""
