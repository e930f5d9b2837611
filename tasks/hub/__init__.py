"""A trained model as a folder that others load, here or on the Hugging Face hub, with a card about it."""
