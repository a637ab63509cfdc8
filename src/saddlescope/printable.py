"""Text from files and from users made fit to be shown: no character that steers a terminal or turns the reading order.

One place for the console (`cli`), the page (`report`) and the notebook (`shown`); errors clip long values here too.
"""

import unicodedata

# Line of an error, and one value inside it.
LINE, VALUE = 400, 160

# Control, format (among them the bidirectional ones), surrogates, private use; separators of lines and paragraphs.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def printable(text: object) -> str:
    """Return a text with every character that is not seen (control, format, bidirectional) written as an escape."""
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode("ascii")
        if unicodedata.category(character) in _UNSEEN
        else character
        for character in str(text)
    )


def one_line(text: object) -> str:
    """Return a text on one line: runs of spaces and line ends become one space, what is not seen becomes an escape."""
    return printable(" ".join(str(text).split()))


def clipped(text: object, most: int) -> str:
    """Return a text of at most so many characters; of a longer one the middle is left out."""
    whole = str(text)
    if len(whole) <= most:
        return whole
    head = (most - 5) * 2 // 3
    return f"{whole[:head]} ... {whole[len(whole) - (most - 5 - head) :]}"
