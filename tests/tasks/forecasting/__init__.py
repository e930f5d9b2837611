"""Future frames."""
