"""Before a trial is trained again: what differs now, and what of it can be restored."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from centernet.dataset.demo import demo_folder
from centernet.dataset.source import Links
from centernet.errors import UserError, one_line
from experiments import provenance, restore
from experiments.differences import Difference, differences, unequal
from experiments.manifest import current, fingerprint
from experiments.settings import Settings
from experiments.tracking.record import Recorded
from experiments.verdict import Deviation, tolerance


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be trained, and how far it is what was trained then."""

    then: Recorded
    values: dict[str, Any]  # the config to train
    found: list[Difference]  # now, against what was recorded
    old_code: bool  # the code of then is checked out
    hindrance: str  # why it cannot be
    old_packages: bool  # the packages of then are installed
    epochs: int  # to compare
    to_the_end: bool  # whether those are all that there are

    def restored(self, one: Difference) -> bool:
        """Whether a difference will be undone."""
        if one.kind == "source":
            return self.old_code and not self.hindrance
        return one.kind == "variable" or (one.kind in ("package", "python") and self.old_packages)

    @property
    def left(self) -> list[Difference]:
        """The differences that the training will have."""
        return [one for one in self.found if one.trains and not self.restored(one)]

    @property
    def limit(self) -> Deviation | None:
        """How far an epoch may be from the recorded one; none where only equal bits will do."""
        identity = self.then.identity
        mode = identity.get("mode") or mode_of(self.values)
        return tolerance(device_of(self.then), mode, self.left)

    @property
    def fresh(self) -> bool:
        """Whether it takes another process: this one runs other code or packages."""
        kinds = {one.kind for one in self.found if one.trains}
        return self.old_packages or self.old_code or bool(kinds & {"source", "variable"})


def make_plan(then: Recorded, own: Settings, options: argparse.Namespace) -> Plan:
    """Compare what is here with what was recorded; UserError for data that is not here."""
    values = values_now(then, own, options)
    now = provenance.identity(values)
    folder, links = Path(values["data.folder"]), values.get("data.follow_links", [])
    found = differences(reference(then), now) + data_differences(then, folder, links)
    code = any(one.kind == "source" and one.trains for one in found)
    packages = any(one.kind in ("package", "python") for one in found)
    old_code = code and not options.as_is
    root, trust = provenance.ROOT, options.trust_patch
    count = min(options.epochs or len(then.epochs), len(then.epochs))
    return Plan(
        then,
        values,
        found,
        old_code=old_code,
        hindrance=restore.obstacle(then, root, trust=trust) if old_code else "",
        old_packages=packages and options.restore_env,
        epochs=count,
        to_the_end=options.epochs is None or options.epochs > len(then.epochs),
    )


def reference(then: Recorded) -> dict[str, Any]:
    """The identity recorded; one of before this was kept gets the sources of its commit."""
    commit = str(then.identity.get("commit"))
    if "sources" in then.identity or not re.fullmatch(restore.COMMIT, commit):
        return then.identity
    changed = provenance.git(provenance.ROOT, "diff", "--relative", "--name-only", commit, "--")
    gone = dict.fromkeys((changed or "").splitlines(), "another")
    sources = provenance.sources(provenance.ROOT)
    return then.identity | {"sources": sources | {n: v for n, v in gone.items() if n in sources}}


def values_now(then: Recorded, own: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """The recorded config with its threads and device, and with where things are now."""
    threads = then.values.get("train.threads") or then.identity["threads"]
    device = device_of(then)
    here = device != "cuda" or torch.cuda.is_available()
    values = then.values | {
        "data.folder": str(data_folder(then, own, options.data)),
        "train.threads": options.threads or threads,
        "train.device": device if here else "auto",
        "train.checkpoint_every": 1,  # changes no bit, and tells the tensors' names
    }
    return values | ({} if options.workers is None else {"data.workers": options.workers})


def device_of(then: Recorded) -> str:
    """What it was trained on; a record of before this was kept says it by its GPU."""
    device = then.identity.get("device") or then.values["train.device"]
    return str(device if device != "auto" else "cuda" if then.identity["gpu"] else "cpu")


def mode_of(values: dict[str, Any]) -> str:
    """Of a config."""
    return "deterministic" if values["train.deterministic"] else "fast"


def data_folder(then: Recorded, own: Settings, given: Path | None) -> Path:
    """Where its data lies now; the embedded demo data is written again where it is not."""
    recorded = Path(str(then.values["data.folder"]))
    folder = (given or recorded).resolve()
    if given is None and not recorded.is_dir() and then.data == "demo":
        return demo_folder(own.runs)
    if not folder.is_dir():
        raise UserError(f"its data was in {recorded}, which is not here; --data FOLDER says where")
    return folder


def data_differences(then: Recorded, folder: Path, links: Links = ()) -> list[Difference]:
    """Files of the data that are not as they were; splits, where no file was recorded."""
    recorded = dict(then.identity["data"])
    if then.manifest is None:
        now = {name: fingerprint(folder, name, {}, links) or "broken" for name in recorded}
        return unequal("data", recorded, now)
    found = unequal("data", then.manifest, current(folder, recorded, links))
    names = {f"{name}.json": name for name in recorded}
    return [
        one
        for one in found
        if one.name not in names  # a JSON may be written anew with the same in it
        or fingerprint(folder, names[one.name], then.manifest, links) != recorded[names[one.name]]
    ]


def verified(plan: Plan) -> list[str]:
    """What was trained, what differs now and becomes of it, and what may be expected."""
    then = plan.then
    identity, how = then.identity, device_of(then)
    commit = (identity.get("commit") or "none")[:12]
    lines = [
        f"{then.name.capitalize()} of study {then.study}: {then.state} after "
        f"{len(then.epochs)} epochs (run {then.run_id})",
        f"  then: {mode_of(then.values)} on {how}, {identity['threads']} threads, commit {commit}"
        + (" with uncommitted changes" if identity.get("dirty") else ""),
    ]
    for later in then.continued:
        changed = "; ".join(map(str, differences(identity, later)))
        lines.append(f"  continued after epoch {later['after']} with another {changed}")
    lines += [f"  differs now: {one}{fate(plan, one)}" for one in plan.found if one.trains]
    idle = [one_line(one.name) for one in plan.found if not one.trains]
    if idle:
        lines.append(f"  differs now, but trains nothing: {', '.join(idle)}")
    if not plan.found:
        lines.append("  nothing differs now")
    if plan.hindrance:
        return [*lines, f"  the code cannot be restored: {plan.hindrance}"]
    if plan.old_code and restore.trains(then.patch or ""):
        lines.append(f"  runs {identity['patch']}, code from the store: --trust-patch")
    return [*lines, f"  expected: {expected(plan)}"]


def fate(plan: Plan, one: Difference) -> str:
    """What becomes of a difference, in brackets."""
    if plan.restored(one):
        return " (restored)"
    return " (--restore-env restores it)" if one.kind in ("package", "python") else ""


def expected(plan: Plan) -> str:
    """What is stated for the differences that are left."""
    if plan.limit:
        return f"the same bits, or at every epoch {plan.limit} at most"
    fast = device_of(plan.then) == "cuda" and mode_of(plan.then.values) == "fast"
    if not plan.left and not fast:
        return "the same bits"
    return "no tolerance is stated for this: the same bits, or it diverged"


def suspects(plan: Plan) -> list[str]:
    """What may be why a training came out otherwise."""
    later = [one for other in plan.then.continued for one in differences(plan.then.identity, other)]
    found = [str(one) for one in plan.left]
    return found + [f"continued with another {one}" for one in later if one.trains]
