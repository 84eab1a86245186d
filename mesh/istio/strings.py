"""How a text is compared. Law: one way of comparing for each match; none at all means that the text is there."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.istio.message import Message, Mistake
from mesh.istio.regex import mistake_in_regex


class UriMatch(Message):
    """How a path is compared: it may have the empty prefix."""

    oneofs = (("exact", "prefix", "regex"),)

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """A pattern that RE2 would not take."""
        if self.regex is not None and (what := mistake_in_regex(self.regex)):
            yield ("regex",), what


class StringMatch(UriMatch):
    """How a header, method, authority or parameter is compared. With nothing set: it is present."""

    def mistakes(self) -> Iterator[Mistake]:
        """An empty prefix, or a pattern that RE2 would not take."""
        if self.prefix == "":
            yield ("prefix",), "must not be empty"
        yield from super().mistakes()

    @property
    def present(self) -> bool:
        """Whether any value will do."""
        return self.exact is None and self.prefix is None and self.regex is None


class AbsenceMatch(StringMatch):
    """How a header of `withoutHeaders` is compared: there, `*` as a pattern means any value."""

    def mistakes(self) -> Iterator[Mistake]:
        """As for any match, but for the pattern `*`."""
        if self.regex != "*":
            yield from super().mistakes()

    @property
    def present(self) -> bool:
        """Whether any value will do."""
        return self.regex == "*" or super().present
