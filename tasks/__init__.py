"""Uses of a trained model: python -m tasks.NAME."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before PyTorch is loaded: see train.py
