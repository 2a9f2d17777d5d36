"""What a training is called: `trial 7` in a search, `trial 7, seed 2` (7.2) in its finals."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """A trial of a search, or one of its trainings with a fresh seed."""

    trial: int
    seed: int = 0  # which of the fresh seeds, from 1; 0: the trial of the search itself

    def __str__(self) -> str:
        """As it is typed, and as the tag `trial` of its run holds it: `7`, `7.2`."""
        return f"{self.trial}.{self.seed}" if self.seed else str(self.trial)

    @property
    def words(self) -> str:
        """As people read it."""
        return f"trial {self.trial}, seed {self.seed}" if self.seed else f"trial {self.trial}"


def parse(text: str) -> Label | None:
    """What `7` or `7.2` names; none for any other text."""
    match = re.fullmatch(r"([0-9]{1,9})(?:\.([1-9][0-9]{0,9}))?", text)
    return Label(int(match[1]), int(match[2] or 0)) if match else None


def words(text: str) -> str:
    """What people read for `7` or `7.2`; any other text as it is."""
    label = parse(text)
    return label.words if label else text
