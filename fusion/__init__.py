"""Joining streams: any number of them, any of them absent. No files are read here."""
