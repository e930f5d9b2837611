"""Wrong input, in words that help."""


class UserError(Exception):
    """Input that the user can mend. The message names the file or value at fault and says what to do."""


def at_least(least: float, **values: float) -> None:
    """Raises UserError for the first value that is smaller, or is no number; names are options with _ for -."""
    for name, value in values.items():
        if not least <= value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


def one_line(text: str) -> str:
    """Names of files may hold line breaks; what is printed of them may not."""
    return "\\n".join(text.splitlines())
