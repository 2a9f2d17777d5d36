"""What a search found, in words: the best trial, the finals, the test, the promotion."""

from collections.abc import Sequence
from typing import Any

from experiments import study
from experiments.display import number
from experiments.finalists import DEFAULT, FINALISTS, SEEDS, Finalist
from experiments.promote import Verdict
from experiments.settings import CHALLENGER
from experiments.study.suggest import SEED


def summary(
    name: str,
    best: Any,
    default: Any,
    verdict: Verdict | None,
    alias: str,
    found: list[str],
) -> str:
    """What a search found, and what to type next."""
    value, usual = study.score(best) or 0.0, study.score(default)
    if best.number == default.number:
        against = ", which is the default config: nothing tried was better"
    elif usual is None:
        against = f"; the default config (trial 0) was not completed: {default.state.name}"
    else:
        against = f", the default config (trial 0): AP {usual:.1f} ({value - usual:+.1f})"
    lines = [f"\nBest     trial {best.number}: AP {value:.1f}{against}"]
    lines += [f"         {path} = {number(value)}" for path, value in best.params.items()]
    lines += found
    return "\n".join([
        *lines,
        *(judged(verdict, alias) if verdict else ["Model    none was registered"]),
        "",
        "Next     make ui                      compare the runs",
        f"         make reproduce TRIAL={best.number:<8} train it again, compare bit by bit",
        f"         make register TRIAL=N        choose another {alias}",
        f"         make search ... TRIALS=N     more trials of {name}",
    ])  # fmt: skip


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
    """Every finalist's AP with fresh seeds, the best first, and how lucky the search's best was."""
    lines = []
    for one in ranked:
        values = ", ".join(f"{value:.1f}" for value in one.values) or "none was completed"
        failed = f"; {one.missing} failed" if one.missing and one.finals else ""
        lines.append(f"Finals   {finalist(one.trial)}: mean AP {one.mean:.1f} ({values}){failed}")
    lucky = max(ranked, key=lambda one: (one.searched or 0.0, -one.trial))
    if lucky.optimism is not None:
        lines.append(
            f"Luck     trial {lucky.trial} was best in the search with AP {lucky.searched:.1f}, "
            f"{lucky.optimism:+.1f} against its mean with fresh seeds"
        )
    if ranked[0].finals:
        seed = ranked[0].median.params[SEED]
        lines.append(
            f"Winner   {finalist(ranked[0].trial)}, as trained with seed {seed}: its median"
        )
    return lines


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
