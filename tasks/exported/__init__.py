"""A trained model as files that run without this project's model code: how they are made, and how they answer."""
