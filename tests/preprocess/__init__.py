"""Tests of preprocess/."""
