"""Kill -9 a search of two workers many times; count what was lost, doubled or left running.

Studies and runs are in a PostgreSQL server, which is itself stopped at once and started again.

PYTHONPATH=tests .venv/bin/python benchmarks/kills.py [KILLS]     one JSON object
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from chaos import leftovers, torment, twins
from conftest import REPOSITORY, tiny_values
from journey import SPACE, run, tracker_of
from postgres import Postgres

from centernet.dataset.demo import generate
from experiments import study
from experiments.settings import load

KINDS = ("worker", "search", "everything", "hang", "store")


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    trials = max(kills, 4)  # enough to outlast the kills
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "tiny").mkdir()
        generate(home / "tiny", {"train": 24, "val": 8, "test": 6})
        text = (REPOSITORY / "mlflow.yaml").read_text().replace("retries: 3 ", "retries: 99 ")
        postgres = Postgres(home / "postgres")
        text = postgres.settings(text.replace("minutes: 60 ", "minutes: 0.3 "))
        (home / "mlflow.yaml").write_text(text)

        def restart() -> None:
            postgres.stop()
            time.sleep(chance.uniform(0, 8))
            postgres.start()

        base = tiny_values(home / "tiny") | {"train.epochs": 12, "train.threads": 1}
        (home / "base.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in base.items()))
        (home / "space.yaml").write_text(SPACE)
        words = ("--space", "space.yaml", "--study", "c", "--workers", 2, "--trials", trials)
        chance = random.Random(0)  # noqa: S311
        kinds = chance.choices(KINDS, (12, 4, 4, 2, 3), k=kills)
        started = time.perf_counter()
        done = torment(home, words, kinds=kinds, seconds=(0, 3), seed=0, restart=restart)
        seconds = time.perf_counter() - started
        own = load(home / "mlflow.yaml")
        states = [trial.state.name for trial in study.load_study(own, "c").get_trials()]
        runs = tracker_of(own, "c").trials()
        compared, differ = twins(own, "c", home / "twins")
        left = leftovers(own, "c")
        checked = run(home, "status", "c", "--check").splitlines()[-1]
        postgres.close()
    result = {
        "ended": dict(done),
        "seconds": round(seconds),
        "trials": len(states),
        "expected": trials,
        "check": checked,
        "states": {state: states.count(state) for state in sorted(set(states))},
        "runs": len(runs),
        "running": sum(one.info.status == "RUNNING" for one in runs),
        "epochs_compared_with_undisturbed_twins": compared,
        "different": len(differ),
        "files_left": len(left),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
