"""Processes that can hang, crash or grow at no one's cost but their own."""
