"""The errors that users see: each message says what was found, what was expected, where, and what to do."""

MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the content of a damaged file can raise where it is used."""


class SerError(Exception):
    """Anything that the user can mend; the commands print it as one line, without a traceback."""


class ConfigError(SerError):
    """A config that cannot be used; one line per problem."""


class DatasetError(SerError):
    """A dataset whose labels or layout cannot be used at all."""


class StoreError(SerError):
    """A store that cannot be opened, written or trusted."""


class UnknownUtteranceError(StoreError, KeyError):
    """No utterance of that name is in the store."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes
