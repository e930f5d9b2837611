"""Errors that tell the user what to do about wrong input."""


class UserError(Exception):
    """Input that the user can correct. The message names the file or value at fault and says what to do."""


def at_least(least: float, **values: float) -> None:
    """Raises UserError for the first value that is smaller or NaN; the names are options with _ for -."""
    for name, value in values.items():
        if not least <= value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


def one_line(text: str) -> str:
    """The text without line breaks, which names of files may hold."""
    return "\\n".join(text.splitlines())
