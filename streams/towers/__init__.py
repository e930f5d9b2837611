"""Towers: a clip of one stream in, a sequence of features out."""

from streams.towers.registry import TOWERS, create_tower

__all__ = ["TOWERS", "create_tower"]
