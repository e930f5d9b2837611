"""What a trained model is used for: python -m tasks.NAME."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before PyTorch is loaded: see train.py
