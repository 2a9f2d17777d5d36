"""What a search found, in words: its winner, the finals, the test, the promotion."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import study
from experiments.display import number
from experiments.finalists import DEFAULT, FINALISTS, SEEDS, Finalist
from experiments.label import Label
from experiments.next_steps import command, option
from experiments.promote import Verdict
from experiments.settings import CHALLENGER
from experiments.study import Trial


def summary(name: str, found: list[str], chosen: Label, verdict: Verdict | None, alias: str) -> str:
    """What a search found, what became of the chosen training, and what to type next."""
    return "\n".join([
        "",
        *found,
        *(judged(verdict, alias) if verdict else ["Model    none was registered"]),
        "",
        *next_steps(name, chosen, alias),
    ])  # fmt: skip


def next_steps(name: str, chosen: Label, alias: str) -> list[str]:
    """Commands that go on from here, and what each does."""
    steps = {
        command("ui"): "compare the runs",
        command("reproduce", trial=chosen): "train it again, compare bit by bit",
        command("register", trial="N"): f"choose another {alias}",
        f"the same command with {option('trials', 'N')}": f"more trials of {name}",
    }
    width = max(map(len, steps)) + 2
    lines = [f"         {typed:<{width}}{what}" for typed, what in steps.items()]
    return [lines[0].replace("         ", "Next     ", 1), *lines[1:]]


def search_result(best: Trial, default: Trial) -> str:
    """The best trial of a search, beside the default config."""
    value, usual = study.score(best) or 0.0, study.score(default)
    if best.number == default.number:
        against = ", which is the default config: nothing tried was better"
    elif usual is None:
        against = f"; the default config (trial 0) was not completed: {default.state.name}"
    else:
        against = f", the default config (trial 0): AP {usual:.1f} ({value - usual:+.1f})"
    return f"Best     trial {best.number}: AP {value:.1f}{against}"


def values(params: Mapping[str, object]) -> list[str]:
    """A line for each field that the study varies."""
    return [f"         {path} = {number(value)}" for path, value in params.items()]


def finals_plan(finals: Any) -> str:
    """Who is trained again, and how often."""
    trials = [finalist(number) for number in finals.user_attrs[FINALISTS]]
    seeds = len(finals.user_attrs[SEEDS])
    again = f"{seeds} fresh seeds" if seeds > 1 else "a fresh seed"
    return f"{', '.join(trials)}: again, with {again} each ({finals.study_name})"


def finalist(number: int) -> str:
    """A finalist's name."""
    return f"trial {number} (default config)" if number == DEFAULT else f"trial {number}"


def finals_result(ranked: Sequence[Finalist]) -> list[str]:
    """Who won the finals, by which training; every finalist; how lucky the search's best was."""
    if not ranked:
        return []
    first, lines = ranked[0], []
    if first.finals:
        lines = [f"Winner   {headline(ranked)}"]
    for one in ranked:
        aps = ", ".join(f"{value:.1f}" for value in one.values)
        failed = f"; {one.missing} failed" if one.missing else ""
        result = f"mean AP {one.mean:.1f} ({aps}){failed}" if one.finals else "none was completed"
        lines.append(f"Finals   {finalist(one.trial)}: {result}")
    if first.finals:
        lines.append(
            f"Chosen   {first.stands.words} (TRIAL={first.stands}): its training of median AP"
        )
    lucky = max(ranked, key=lambda one: (one.searched or 0.0, -one.trial))
    if lucky.optimism is not None:
        lines.append(
            f"Luck     trial {lucky.trial} was best in the search with AP {lucky.searched:.1f}; "
            f"with fresh seeds its mean AP is {lucky.mean:.1f} ({-lucky.optimism:+.1f})"
        )
    return lines


def headline(ranked: Sequence[Finalist]) -> str:
    """The winner of the finals, beside the default config."""
    first, default = ranked[0], next((one for one in ranked if one.trial == DEFAULT), None)
    against = ""
    if first.trial == DEFAULT:
        against = "; nothing tried was better"
    elif default is not None and default.finals:
        gain = first.mean - default.mean
        against = f"; the default config (trial {DEFAULT}): {default.mean:.1f} ({gain:+.1f})"
    seeds = f"{len(first.finals)} fresh seeds" if len(first.finals) > 1 else "a fresh seed"
    return f"{finalist(first.trial)}: mean AP {first.mean:.1f} with {seeds}{against}"


def judged(verdict: Verdict, alias: str) -> list[str]:
    """The test, and what became of a version."""
    version, other = verdict.version, verdict.champion
    lines = []
    if verdict.test is not None:
        against = "" if verdict.comparison is None or other is None else (
            f", version {other.version}: AP {verdict.comparison.champion}, "
            f"difference {verdict.comparison.difference.signed}"
        )  # fmt: skip
        lines.append(f"Test     AP {verdict.test}{against}")
    name = f"{version.name} version {version.version}"
    uri = f"models:/{version.name}@{alias}"
    if verdict.earlier:
        none = f"there is no {alias}"
        now = f"{alias} is version {other.version}" if other is not None else none
        place = f"is {uri}" if verdict.moved else f"is registered; {now}"
        return [f"Model    {name} {place}; decided earlier: {verdict.decision.why}"]
    role = f"is registered as {CHALLENGER}" if CHALLENGER in version.aliases else "is registered"
    verb = f"is now {uri}" if verdict.moved else f"{role}, not as {alias}"
    return [*lines, f"Model    {name} {verb}: {verdict.decision.why}"]
