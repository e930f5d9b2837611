"""A page to look at answers over time: one HTML file, or served while a live source runs."""
