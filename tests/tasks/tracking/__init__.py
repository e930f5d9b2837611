"""Detection and tracking."""
