"""Wrong input, in words that help."""


class UserError(Exception):
    """Input that the user can mend. The message names the file or value at fault and says what to do."""
