"""A trial again: what differs now, what of it can be restored, train, compare, one verdict."""

import argparse
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centernet import checkpoint
from centernet.checkpoint import LAST
from centernet.errors import UserError, one_line
from centernet.interrupts import as_ctrl_c
from centernet.logs import from_tree
from centernet.scratch import scratch_folder
from experiments import provenance, restore, settings, study
from experiments.display import duration
from experiments.label import parse
from experiments.plan import Plan, make_plan, suspects, verified
from experiments.replay import replay
from experiments.settings import Settings
from experiments.study import finals
from experiments.tracking import Tracker
from experiments.tracking.record import Archive, Recorded
from experiments.tracking.tracker import STUDY, STUDY_ID
from experiments.verdict import (
    DIVERGED,
    EQUIVALENT,
    IDENTICAL,
    Comparison,
    Deviation,
    numeric,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, and the sentence behind it."""

    word: str
    why: str
    suspects: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`IDENTICAL: 30 epochs, ...`, and a line for each suspect."""
        return "\n  suspect: ".join((f"{self.word}: {self.why}", *self.suspects))


def train(plan: Plan, scratch: Path, own: Settings) -> Generator[dict[str, Any], None, None]:
    """Train as planned, each epoch as plain values, in this process or in one made for it."""
    folder = scratch / "training"
    if not plan.fresh:
        yield from replay(plan.values, folder)
        return
    with ExitStack() as stack:
        code, python = provenance.ROOT, Path(sys.executable)
        if plan.old_code:
            code = stack.enter_context(restore.code(plan.then, provenance.ROOT, scratch))
        if plan.old_packages:
            python = restore.environment(plan.then, own.runs / "environments")
        variables = plan.then.identity.get("variables", {})
        lines = restore.train(plan.values, folder, python=python, code=code, variables=variables)
        yield from stack.enter_context(closing(lines))


def judge(
    plan: Plan, lines: Iterator[dict[str, Any]], scratch: Path
) -> Iterator[Comparison | Verdict]:
    """Each epoch beside the recorded one as it comes, and in the end the verdict."""
    then, worst = plan.then, Deviation()
    first: Comparison | None = None
    done, error = 0, ""
    fails = plan.to_the_end and then.state == "FAIL"
    for line in lines if plan.epochs or fails else ():
        if "error" in line or done == plan.epochs:
            error = one_line(line.get("error", ""))
            break
        one = Comparison(then.epochs[done], from_tree(line))
        yield one
        done += 1
        if one.differs:
            first, worst = first or one, worst.worst(one.deviation)
            if plan.limit is None or not worst.within(plan.limit):
                yield diverged(plan, where(first, one, scratch))
                return
        if done == plan.epochs and not fails:
            break
    yield conclude(plan, done, error, first, worst)


def conclude(
    plan: Plan, done: int, error: str, first: Comparison | None, worst: Deviation
) -> Verdict:
    """The verdict on a training whose compared epochs are all the same, or near enough."""
    reason = plan.then.reason if plan.to_the_end and plan.then.state == "FAIL" else ""
    again = error == reason
    if not again and numeric(error):
        return diverged(plan, f"it failed after {epochs(done)}: {error}")
    if error and done < plan.epochs:
        raise UserError(error)
    if not again and numeric(reason):
        return diverged(plan, f"it did not fail as it did then: {reason}")
    if not done and not (again and reason):
        raise UserError(f"nothing to compare: no epoch was completed{reason and ': ' + reason}")
    count, end = epochs(done), ""
    if not plan.to_the_end:
        count = f"the first {done} of {epochs(len(plan.then.epochs))}"
    if reason:
        end = f"; it failed as then: {reason}" if again else f"; what ended it then: {reason}"
    if first is None:
        return Verdict(IDENTICAL, f"{count}, every loss, metric and weight bit for bit{end}")
    since = f"from epoch {first.then.number} on the bits are others"
    why = f"{count}; {since}, at most {worst}; allowed: {plan.limit}{end}"
    return Verdict(EQUIVALENT, why, tuple(suspects(plan)))


def diverged(plan: Plan, why: str) -> Verdict:
    """With what may have caused it."""
    nothing = "nothing that is recorded differs"
    return Verdict(DIVERGED, why, tuple(suspects(plan)) or (nothing,))


def where(first: Comparison, last: Comparison, scratch: Path) -> str:
    """The first epoch and tensor that are others, and how far it went."""
    names = checkpoint.names(scratch / "training" / LAST)
    what = first.tensors(names) or ", ".join(first.differs)
    return f"first at epoch {first.then.number}: {what}; epoch {last.then.number}: {last.deviation}"


def epochs(count: int) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count} epoch{'s' * (count != 1)}"


def reproduce(options: argparse.Namespace) -> int:
    """Train a trial again and compare it with its run; 1 if it diverged."""
    as_ctrl_c()  # leave nothing behind
    own = settings.load(options.settings)
    archive = Archive(own)
    then = find(archive, options.trial, options.study)
    plan = make_plan(then, own, options)
    said = "\n".join(verified(plan))
    print(said, flush=True)
    if options.check_only:
        return int(bool(plan.left))
    if plan.hindrance:
        raise UserError(f"the code cannot be restored: {plan.hindrance}")
    own.runs.mkdir(parents=True, exist_ok=True)
    with (
        scratch_folder(".reproduce-", own.runs) as scratch,
        archive.reproduction(then) as run,
        closing(train(plan, scratch, own)) as lines,
    ):
        for event in judge(plan, lines, scratch):
            if isinstance(event, Comparison):
                run.log(event.now)
                print(line(event, plan.epochs), flush=True)
            else:
                run.conclude(event.word, f"{said}\n{event}")
                print(event, flush=True)
    return int(isinstance(event, Verdict) and event.word == DIVERGED)


def line(comparison: Comparison, epochs: int) -> str:
    """One epoch, then and now."""
    now = comparison.now
    ap = f"AP {now.metrics['AP']:.2f}, " if "AP" in now.metrics else ""
    left = duration((epochs - now.number) * (now.seconds + now.seconds_evaluating))
    same = f"differs: {', '.join(comparison.differs)}" if comparison.differs else "identical"
    return f"  epoch {now.number}/{epochs}: {ap}weights {now.digest[:12]}, {same} (ETA {left})"


def find(archive: Archive, reference: str, name: str | None) -> Recorded:
    """What was recorded of what a person names: a number is that which `status` shows.

    A tracking store that came without the studies' is asked alone. UserError where a run says that
    it is of another trial: somebody edited one of the two stores.
    """
    label = parse(reference)
    if label is None:
        if name is not None:
            raise UserError(f"--study {name}: {reference} says itself of which study it is")
        return archive.read(archive.find(reference))
    try:
        parent = study.load_study(archive.settings, name)
    except study.NoStudy:
        return archive.read(archive.find(reference, name))
    holder, trial = finals.find(parent, label)
    run_id = finals.run_of(parent, label, trial)
    wanted = f"{label.words} of study {parent.study_name}"
    ids = {holder.user_attrs.get(study.ID), parent.user_attrs.get(study.ID)}
    try:
        run = archive.find(run_id)
        of, its_label = run.data.tags.get(STUDY_ID), archive.lookup.label(run)
        if its_label not in (None, label) or of not in ids:
            other = f"{archive.words(run)} of study {run.data.tags.get(STUDY)}"
            raise UserError(f"its run {run_id} is labelled {other}: one of the two was edited")
        return archive.read(run)
    except UserError as error:
        raise UserError(f"{wanted}: {error}") from None


def recorded(tracker: Tracker, number: int) -> Recorded:
    """What the run of a study's trial recorded."""
    trial = tracker.find(number)
    if trial is None:
        raise UserError(f"{tracker.label(number).words} of {tracker.study} has no run in MLflow")
    return Archive(tracker.settings).read(trial)


__all__ = ["Comparison", "recorded", "reproduce"]
