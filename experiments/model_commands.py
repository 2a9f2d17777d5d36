"""What the commands about registered models do; imported only once one of them runs."""

import argparse
import errno
import socket
from collections import defaultdict
from pathlib import Path
from typing import Any

from centernet import commands as detector_commands
from centernet.errors import UserError, did_you_mean
from experiments import promote as promotion
from experiments import settings, study
from experiments.label import words
from experiments.next_steps import command, first_search
from experiments.outcome import judged
from experiments.promote import Candidate, promote
from experiments.references import SCHEME, model_reference
from experiments.registry import DECISION, VALUE, Registry, Version, names, rounded
from experiments.servers.run import become
from experiments.servers.scoring import environment as scoring_environment
from experiments.settings import Settings
from experiments.study import finals
from experiments.tracking import Tracker
from experiments.tracking.record import Archive

FINALIST = "finalist"  # tag of a version that an earlier version of this program made of a final
ASK = """\
  {{ printf '{{"dataframe_records": [{{"image": "'; base64 -w0 IMAGE; printf '"}}]}}'; }} \\
    | curl -H 'Content-Type: application/json' -d @- {}"""


def register(options: argparse.Namespace) -> int:
    """Register a trial's model as the champion by hand, once it has passed the checks."""
    own = settings.load(options.settings)
    ours, label = study.load_study(own, options.study), options.trial
    holder, trial = finals.find(ours, label)
    if not trial.state.is_finished() or not trial.intermediate_values:
        raise UserError(f"{label.words} is {trial.state.name}: it has no model to register")
    value = max(trial.intermediate_values.values())
    tracker = Tracker.of(own, holder)
    candidate = Candidate(tracker, finals.run_of(ours, label, trial), label, value)
    folder = options.data and options.data.resolve()
    verdict = promote(own, candidate, by_hand=True, folder=folder)
    said = f"study {ours.study_name}, {label.words}, val AP {value:.1f}"
    print(f"{verdict.version.name} version {verdict.version.version}: {said}")
    *tested, model = judged(verdict, own.alias)
    if verdict.earlier:
        print(model)
        return 0
    for line in tested:
        print(line)
    would = "promote" if verdict.decision.promote else "refuse"
    print(f"Gate     would {would} it: {verdict.decision.why}")
    print(f"models:/{verdict.version.name}@{own.alias} is now version {verdict.version.version}")
    return 0


def models(options: argparse.Namespace) -> int:
    """List the versions of a registered model, with what decided about each."""
    own = settings.load(options.settings)
    registry, archive = Registry(own, model_name(own, options.model)), Archive(own)
    print(registry.name)
    for version in registry.versions():
        print("\n".join(about(version, archive)))
    return 0


def called(version: Version, archive: Archive) -> str:
    """The trial, or final, that a version was made from."""
    trial = words(version.tags.get("trial", "trial ?"))
    if FINALIST not in version.tags:
        return trial
    try:
        return archive.words(archive.find(version.run_id))
    except UserError:
        return f"{trial}, trained again in the finals"


def about(version: Version, archive: Archive) -> list[str]:
    """What a version's tags say, in lines."""
    found = defaultdict(lambda: "?", version.tags)  # anybody can delete a tag
    aliases = "".join(f" @{alias}" for alias in version.aliases)
    head = f"version {version.version}{aliases}"
    if not version.ours:
        return [f"{head}: made elsewhere"]
    lines = [
        f"{head}: study {found['study']}, {called(version, archive)}, "
        f"val AP {rounded(found[VALUE], 1)}",
        f"    run {version.run_id}, data {found['data_folder']} ({found['data']})",
    ]
    lines += [f"    {line}" for line in found.get("finals", "").splitlines()]
    if promotion.TEST in found:
        lines.append(
            f"    test AP {found[promotion.TEST]} on {found.get('test_images', '?')} images"
        )
    lines.append(f"    {found.get(DECISION, 'not decided yet')}")
    for name in (promotion.PROMOTED, promotion.ROLLED_BACK):
        lines += [f"    {name.replace('_', ' ')} {found[name]}"] if name in found else []
    return lines


def in_short(value: str) -> str:
    """An AP of a tag with one digit; what somebody else wrote there as it is."""
    try:
        return f"{float(value):.1f}"
    except ValueError:
        return value


def rollback(options: argparse.Namespace) -> int:
    """Move the champion back to the version before it, or to a given one."""
    own = settings.load(options.settings)
    registry = Registry(own, model_name(own, options.model))
    before, now = promotion.rollback(own, registry, to=options.to, why=options.why)
    print(f"models:/{registry.name}@{own.alias}: version {before.version} -> {now.version}")
    print(f"Why      {options.why}")
    return 0


def predict(options: argparse.Namespace) -> int:
    """`centernet predict` with the weights of a registered model."""
    own = settings.load(options.settings)
    if options.weights is None or options.weights.startswith(SCHEME):
        registry, version = chosen(own, options.weights)
        weights = registry.weights(version)
    else:
        weights = Path(options.weights)
    options.weights = weights
    return detector_commands.predict(options)


def serve(options: argparse.Namespace) -> int:
    """MLflow's scoring server on 127.0.0.1 with a registered model, in place of this process."""
    own = settings.load(options.settings)
    registry, version = chosen(own, options.weights)
    opened = listen(options.port or own.serve_port, "serve")
    address = "http://{}:{}/invocations".format(*opened.getsockname())
    print(f"{version.uri}: {address} (Ctrl-C stops it)\n{ASK.format(address)}", flush=True)
    folder = registry.files(version)
    become("experiments.servers.scoring", opened, scoring_environment(own.tracking_uri, folder))


def listen(port: int, verb: str) -> socket.socket:
    """A socket that takes connections on 127.0.0.1; UserError where somebody else does."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise UserError(f"port {port}: {error.strerror}") from None
        free = command(verb, port=port % 65535 + 1)
        raise UserError(f"port {port} is taken; {free}") from None


def chosen(own: Settings, reference: str | None) -> tuple[Registry, Version]:
    """The version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names; none: the champion.

    UserError where there is none.
    """
    name, alias = None, own.alias
    if reference is not None:
        wanted = model_reference(reference)
        name, alias = wanted.name, wanted.alias or own.alias
        if wanted.version is not None:
            registry = Registry(own, model_name(own, name))
            return registry, registry.get(wanted.version)
    registry = Registry(own, model_name(own, name))
    version = registry.at(alias)
    if version is None:
        raise UserError(f"{registry.name} has no {alias}: {command('register', trial='N')}")
    return registry, version


def model_name(own: Settings, name: str | None) -> str:
    """A registered model; by default the only one, or that of the study searched last."""
    known = names(own)
    if not known:
        raise UserError(f"no model is registered yet: {first_search()}")
    if name is not None:
        if name not in known:
            near = did_you_mean(name, known) or f" (there are {', '.join(known)})"
            raise UserError(f"no registered model is named {name}{near}")
        return name
    if len(known) == 1:
        return known[0]
    last: Any = study.load_study(own, None)
    data = Tracker.of(own, last).data_name()
    wanted = own.model_name(data)
    if wanted not in known:
        raise UserError(f"which one? There are {', '.join(known)}: --model NAME")
    return wanted
