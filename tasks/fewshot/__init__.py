"""Classes of which only a few examples are known: told apart by the features of a model that never learned them."""
