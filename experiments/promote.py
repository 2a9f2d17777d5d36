"""From a trained run to the champion: register, check, examine, decide, record. And back again."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from centernet import yaml_text
from centernet.config import Config, flatten, resolve
from centernet.dataset.coco import read_training
from centernet.dataset.source import Links
from centernet.errors import UserError, one_line
from centernet.lock import exclusive
from centernet.predict import Detector
from experiments import exam, gate
from experiments.checks import Examined, first_failure
from experiments.costs import COSTS
from experiments.gate import Comparison, Decision, Estimate
from experiments.label import Label, words
from experiments.registry import DECISION, REPLACED, VALUE, Registry, Version, rounded
from experiments.settings import CHALLENGER, Settings
from experiments.tracking import Gone, Tracker
from experiments.tracking.run import CONFIG

PHOTOGRAPHS = 4  # val images on which a registered model is compared with the trainer's
CHECKED, TEST, COMPARED, PROMOTED = "checks", "test_AP", "comparison", "promoted"  # tags
ROLLED_BACK = "rolled_back"
NEEDS_NO_DATA = ("loads", "signature")  # of the checks: what a rollback asks again


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained run that may become the champion."""

    tracker: Tracker
    run_id: str
    label: Label  # the trial, or final, of its study
    value: float  # val AP
    notes: dict[str, str] = field(default_factory=dict)  # tags: how it was chosen


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a candidate."""

    version: Version
    decision: Decision
    test: Estimate | None = None
    comparison: Comparison | None = None
    champion: Version | None = None  # with whom it was compared
    moved: bool = False  # whether the alias is the candidate's now
    earlier: bool = False  # decided in another run; `champion` is that of now


def promote(
    own: Settings, candidate: Candidate, *, by_hand: bool = False, folder: Path | None = None
) -> Verdict:
    """Register a run's model; the alias moves where its checks and the gate, or a person, say so.

    The gate decides about a version once: what a person did since then stays. `folder`: where the
    data lies now, if it moved. UserError where a person asks for a model that fails a check.
    """
    tracker = candidate.tracker
    data, digest = tracker.data(tracker.run(candidate.run_id))
    registry = Registry(own, own.model_name(data))
    with exclusive(own.runs / ".registry.lock"):
        known = registry.find(candidate.run_id)
        there = known is not None and own.alias in known.aliases
        if known is not None and known.decided and (there or not by_hand):
            decision, now = Decision(there, known.tags[DECISION]), registry.at(own.alias)
            return Verdict(known, decision, champion=now, moved=there, earlier=True)
        tracker.check_active(candidate.run_id)
        config = resolve(recorded(candidate) | ({"data.folder": str(folder)} if folder else {}))
        notes = tags(candidate, config, digest) | candidate.notes
        version = registry.register(tracker, candidate.run_id, notes)
        return settle(own, registry, version, config, by_hand=by_hand)


def recorded(candidate: Candidate) -> dict[str, Any]:
    """The config that a run was trained with; Gone if it is no config any more."""
    try:
        return flatten(yaml_text.parse(candidate.tracker.text(candidate.run_id, CONFIG)))
    except (*yaml_text.ERRORS, AttributeError):
        raise Gone(f"run {candidate.run_id}: its {CONFIG} is not a config") from None


def promote_first(
    own: Settings, candidates: Iterable[Candidate]
) -> tuple[tuple[Candidate, Verdict] | None, list[str]]:
    """Promote the first of which MLflow still has all it takes; what others lack, a line each."""
    missing: list[str] = []
    for candidate in candidates:
        try:
            return (candidate, promote(own, candidate)), missing
        except Gone as error:
            missing.append(f"Missing  {candidate.label.words} is not registered: {error}")
    return None, missing


def settle(
    own: Settings, registry: Registry, version: Version, config: Config, *, by_hand: bool
) -> Verdict:
    """Check and judge a version, move the aliases, write down why; the caller holds the lock."""
    folder, links = Path(str(config.data.folder)), config.data.follow_links
    failure = check(own, registry, version, folder, links)
    if failure is not None:
        decision = Decision(False, f"it does not pass the check {failure}")
        version = registry.note(version, {CHECKED: failure, DECISION: decision.why})
        if by_hand:
            raise UserError(f"{version.uri}: {decision.why}")
        return Verdict(version, decision)
    version = registry.note(version, {CHECKED: f"passed: {', '.join(own.gate.checks)}"})
    while True:
        champion = registry.at(own.alias)
        verdict = judge(own, registry, version, champion, folder, links)
        if number(registry.at(own.alias)) == number(champion):  # else another machine was faster
            break
    moved = by_hand or verdict.decision.promote
    return record(own, registry, verdict, moved=moved, by_hand=by_hand)


def check(
    own: Settings, registry: Registry, version: Version, folder: Path, links: Links = ()
) -> str | None:
    """The first required check that a version does not pass."""
    _, val = read_training(folder, links)
    photographs = [one.file for one in val.records[:PHOTOGRAPHS]]
    weights = registry.trained(version)
    return first_failure(Examined(registry, version, weights, photographs), own.gate.checks)


def judge(
    own: Settings,
    registry: Registry,
    version: Version,
    champion: Version | None,
    folder: Path,
    links: Links = (),
) -> Verdict:
    """What the gate says of a version, on the test images."""
    if champion is not None and champion.version == version.version:
        return Verdict(version, Decision(True, f"it is the {own.alias} already"), champion=champion)
    cache, policy = own.runs / "matches", own.gate
    comparison, weights = None, registry.weights(version)
    try:
        test = exam.read_test(folder, links)
        ours = exam.sit(weights, test, cache)
        if champion is not None:
            theirs = exam.sit(registry.weights(champion), test, cache)
            comparison = gate.compare(ours, theirs, policy)
    except UserError as error:
        return Verdict(version, Decision(False, f"it could not be judged: {error}"))
    own_ap = comparison.challenger if comparison else gate.estimate(ours, policy)
    detector = Detector.load(weights)
    costs: dict[str, float] = {name: COSTS[name](detector) for name in policy.limits}
    decision = gate.decide(policy, own_ap, comparison=comparison, costs=costs, alias=own.alias)
    note = {"test_data": test.fingerprint, "test_images": str(len(test))}
    return Verdict(registry.note(version, note), decision, own_ap, comparison, champion)


def record(
    own: Settings, registry: Registry, verdict: Verdict, *, moved: bool, by_hand: bool
) -> Verdict:
    """Write down what was found and decided, then move the aliases."""
    version, champion = verdict.version, verdict.champion
    why = verdict.decision.why
    if by_hand:
        word = "promote" if verdict.decision.promote else "refuse"
        why = f"moved by hand; the gate would {word} it: {why}"
    notes = {}
    if verdict.test is not None:
        notes[TEST] = str(verdict.test)
        from experiments import charts  # late: matplotlib takes a second

        picture = charts.comparison(
            verdict.comparison, verdict.test, margin=own.gate.margin, size=(9, 3)
        )[1]
        registry.attach(version, "gate.png", picture)
    if verdict.comparison is not None and champion is not None:
        numbers = asdict(verdict.comparison) | {"champion_version": champion.version}
        registry.attach(version, "gate.json", json.dumps(numbers).encode())
        notes[COMPARED] = f"version {champion.version}: {verdict.comparison.difference.signed}"
    if moved and own.alias not in version.aliases:
        before = registry.at(own.alias)
        notes |= {PROMOTED: now(), REPLACED: str(before.version) if before else ""}
    version = registry.note(version, notes)
    registry.note(version, {}, description=describe(own, version, one_line(why)))
    if moved:
        registry.point(own.alias, version)
        registry.unpoint(CHALLENGER, version)
    else:
        registry.point(CHALLENGER, version)
    version = registry.note(version, {DECISION: one_line(why)})  # last: until then, all is redone
    return replace(verdict, version=version, moved=moved)


def number(version: Version | None) -> int | None:
    """A version's number; none for none."""
    return None if version is None else version.version


def tags(candidate: Candidate, config: Config, digest: str) -> dict[str, str]:
    """What a version says of where it came from."""
    return {
        "study": candidate.tracker.study,
        "trial": str(candidate.label),
        "run": candidate.run_id,
        VALUE: f"{candidate.value:.6f}",
        "data": digest,
        "data_folder": str(config.data.folder),
        "config": json.dumps(flatten(config.model_dump())),
    }


def describe(own: Settings, version: Version, why: str) -> str:
    """A version's description, for people."""
    found = defaultdict(lambda: "?", version.tags)  # anybody can delete a tag
    lines = [
        f"{words(version.tags.get('trial', 'trial ?')).capitalize()} of study {found['study']}, "
        f"run {version.run_id}, "
        f"data {found['data_folder']} ({found['data']}).",
        f"Val AP {rounded(found[VALUE], 2)}.",
    ]
    lines += [found["finals"]] if "finals" in found else []
    if TEST in found:
        images = f"{found['test_images']} images ({found['test_data']})"
        sure = f"one-sided bounds at {own.gate.confidence:.0%}"
        lines.append(f"Test AP {found[TEST]} on {images}, {sure}; picture: gate/ of the run.")
    if COMPARED in found:
        lines.append(f"Difference to {found[COMPARED]}.")
    lines.append(f"Decision: {why}.")
    lines.append(f"Config: {found['config']}")
    return "\n\n".join(lines)


def now() -> str:
    """The time, as tags hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def rollback(own: Settings, registry: Registry, *, to: int | None, why: str) -> tuple[Any, Any]:
    """Move the alias back: to a version, by default the one replaced last. (from, to).

    UserError where there is none, or it no longer loads.
    """
    with exclusive(own.runs / ".registry.lock"):
        current = registry.at(own.alias)
        if current is None:
            raise UserError(f"{registry.name} has no {own.alias}: nothing to roll back")
        before = current.tags.get(REPLACED, "")
        before = before if before.isdecimal() else ""  # a tag: anybody may have edited it
        if to is None and not before:
            raise UserError(f"{current.uri} replaced no other {own.alias}; name one: --to VERSION")
        target = registry.get(int(before) if to is None else to)
        if target.version == current.version:
            raise UserError(f"{target.uri} is the {own.alias} already")
        names = [name for name in own.gate.checks if name in NEEDS_NO_DATA]
        if failure := first_failure(
            Examined(registry, target, registry.weights(target), ()), names
        ):
            raise UserError(f"{target.uri} does not pass the check {failure}")
        registry.note(current, {ROLLED_BACK: f"{now()} to version {target.version}: {why}"})
        notes = {PROMOTED: f"{now()} by rollback from version {current.version}: {why}"}
        if REPLACED not in target.tags:
            notes[REPLACED] = str(current.version)
        registry.note(target, notes)
        registry.point(own.alias, target)
        registry.unpoint(CHALLENGER, target)
        return current, registry.get(target.version)
