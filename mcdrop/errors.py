"""The exceptions mcdrop raises, and the one form their texts have.

McdropError
├── NoDropoutError      (ValueError)  nothing in the model became random
├── ShapeError          (ValueError)  an array does not have the expected shape
├── RangeError          (ValueError)  a value lies outside what it may be
├── NonFiniteError      (ValueError)  NaN or infinity, with the rows that hold it
├── OutputError         (TypeError)   the model returned something unusable
└── UnsupportedError    (TypeError)   an input, model or option of a kind that is not handled

Every text reads ``{function}: expected `{argument}` to {condition}, but got {value}. {Remedy}.``
"""

from __future__ import annotations

__all__ = [
    "McdropError",
    "NoDropoutError",
    "NonFiniteError",
    "OutputError",
    "RangeError",
    "ShapeError",
    "UnsupportedError",
]


class McdropError(Exception):
    """Base of every error raised on purpose by mcdrop."""

    @classmethod
    def of(
        cls, function: str, argument: str, condition: str, value: object, remedy: str
    ) -> McdropError:
        """Build the error whose text names the argument, the condition, the value and one remedy.

        Args:
            function: Public function the caller used, such as "crps_ensemble".
            argument: Its argument, without quotes.
            condition: What was expected, as in "have shape (S, 120) to match `y`".
            value: What was given instead, shown as it is.
            remedy: One sentence that says what to do, without the final stop.

        Returns:
            An instance of the class it was called on, to be raised.

        Example:
            >>> str(RangeError.of("wrap", "p", "lie in [0, 1]", 1.5, "Pass a rate"))
            'wrap: expected `p` to lie in [0, 1], but got 1.5. Pass a rate.'
        """
        return cls(f"{function}: expected `{argument}` to {condition}, but got {value}. {remedy}.")


class NoDropoutError(McdropError, ValueError):
    """Nothing in the model became random, so every spread would be a false zero."""


class ShapeError(McdropError, ValueError):
    """An array does not have the shape that the call needs."""


class RangeError(McdropError, ValueError):
    """A value lies outside the range it may have."""


class NonFiniteError(McdropError, ValueError):
    """NaN or infinity where a finite number is needed; the text names the rows."""


class OutputError(McdropError, TypeError):
    """The model returned something from which no prediction can be made."""


class UnsupportedError(McdropError, TypeError):
    """An input, model or option of a kind that mcdrop does not handle."""
