"""Which version is the champion: policy, without MLflow."""

import math
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What the policy looks at."""

    @property
    def value(self) -> float:
        """Val AP."""

    @property
    def data(self) -> str:
        """Fingerprint of the val split that it was measured on."""


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the alias moves, and why."""

    promote: bool
    why: str


def decide(challenger: C, champion: C | None) -> Decision:
    """The champion is replaced by a version of higher val AP on the same val images."""
    if champion is None:
        return Decision(True, "there was no champion")
    if math.isnan(champion.value):
        return Decision(False, "the champion was made elsewhere: compare by hand")
    if challenger.data != champion.data:
        return Decision(False, "the champion was measured on other val images: compare by hand")
    margin = f"val AP {challenger.value:.2f} against the champion's {champion.value:.2f}"
    return Decision(challenger.value > champion.value, margin)
