"""One video: container, clock, pictures, sound."""
