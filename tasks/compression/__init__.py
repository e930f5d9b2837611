"""A smaller model from a trained one: int8 weights, fewer channels, or a student; and what each costs."""
