"""Tests, one folder a room; test names say what holds."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train.py does, but before any test has loaded PyTorch
