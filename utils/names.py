"""The one way to show names of files and classes, which may hold anything, in sentences and in the log."""

import logging
import unicodedata


def shown(text: str, *, keep: str = "") -> str:
    """Show a name, or a text with names in it, on one line: what cannot be printed becomes an escape like `\\x1b`.

    So bytes that are not UTF-8 can be written, and no name moves a terminal's cursor, sets its title or forges a line
    of the log. Spaces of every width stay, and so do the characters to `keep`.
    """
    if text.isprintable():
        return text
    as_it_is = (one.isprintable() or one in keep or unicodedata.category(one) == "Zs" for one in text)
    escaped = (one.encode("unicode_escape").decode() for one in text)
    return "".join(one if stays else escape for one, stays, escape in zip(text, as_it_is, escaped, strict=True))


def counted(number: int, what: str) -> str:
    """Say how many there are: "1 image", "2 images"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


class LogFormatter(logging.Formatter):
    """Shows the names in messages; only a message whose own text has several lines, as a table's, keeps them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = shown(record.message, keep="\n" if "\n" in str(record.msg) else "")
        return super().formatMessage(record)


def log_to_terminal() -> None:
    """Send the log of a program that keeps none in a file to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
