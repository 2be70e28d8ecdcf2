"""How large a question file may be. The web page and the command line state and keep the same limits."""

from dataclasses import dataclass

from medx_core.settings import Settings


@dataclass(frozen=True)
class FileLimits:
    """The limits of one file; characters are counted after decoding."""

    rows: int = 100_000
    bytes: int = 50_000_000
    cell_characters: int = 100_000
    question_characters: int = 4_000

    @classmethod
    def of(cls, settings: Settings) -> "FileLimits":
        """Return the limits that the settings state."""
        return cls(
            rows=settings.max_file_rows,
            bytes=settings.max_file_bytes,
            cell_characters=settings.max_cell_characters,
            question_characters=settings.max_question_characters,
        )

    def in_words(self) -> str:
        """Return one sentence for people who are about to choose a file."""
        return (
            f"Up to {self.rows:,} rows and {self.bytes / 1_000_000:,.0f} MB; "
            f"a question may have {self.question_characters:,} characters."
        )
