"""What a trained model is used for: python -m tasks.NAME."""
