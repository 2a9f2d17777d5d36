"""What differs between two identities, one thing at a time: then -> now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from centernet.errors import one_line

# fact of an identity -> its kind; system and cpus are kept too, but no result depends on them
FACTS = {
    "python": "python",
    "cpu": "hardware",
    "vectors": "hardware",
    "gpu": "hardware",
    "cuda": "hardware",
    "cudnn": "hardware",
    "libc": "hardware",
    "device": "device",
    "threads": "threads",
    "pretrained": "pretrained",
}
GPU = ("gpu", "cuda", "cudnn")
TRAINS = "centernet/"  # the sources that decide a training's bits; the others start, log and judge


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was; `then` is none for what is new, `now` for what is gone."""

    kind: str  # source, package, data, variable, or one of FACTS
    name: str
    then: str | None
    now: str | None

    def __str__(self) -> str:
        """`package numpy: 2.3.1 -> 2.4.0`, `source centernet/losses.py: changed`."""
        place = self.kind if self.kind == self.name else one_line(f"{self.kind} {self.name}")
        if self.kind in ("source", "data"):
            gone = "removed" if self.now is None else "changed"
            return f"{place}: {'added' if self.then is None else gone}"
        return one_line(f"{place}: {self.then or 'none'} -> {self.now or 'none'}")

    @property
    def trains(self) -> bool:
        """Whether a training may come out otherwise because of it."""
        return self.kind != "source" or self.name.startswith(TRAINS)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What is not the same in two identities; what `then` did not record is not compared."""
    whole = "variables" in then  # a record of before listed ten packages only
    packages = {k: v for k, v in now["packages"].items() if whole or k in then["packages"]}
    found = [
        *unequal("source", then.get("sources", now["sources"]), now["sources"]),
        *unequal("package", then["packages"], packages),
        *unequal("variable", then.get("variables", now["variables"]), now["variables"]),
    ]
    idle = GPU if then.get("device") == now["device"] == "cpu" else ()
    for name, kind in FACTS.items():
        if name in then and name not in idle and then[name] != now[name]:
            found.append(Difference(kind, name, text(then[name]), text(now[name])))
    return found


def unequal(kind: str, then: Mapping[str, str], now: Mapping[str, str]) -> list[Difference]:
    """The names whose values differ, or are on one side only."""
    return [
        Difference(kind, name, then.get(name), now.get(name))
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def text(value: object) -> str | None:
    """A fact as text."""
    return None if value is None else str(value)
