"""A config's training again, by the `centernet` that is first on the path: a JSON line an epoch.

Also a script, for code of another commit or packages of another environment: it imports nothing
else of this project, and of `centernet` only what every version has.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any


def replay(values: dict[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Each epoch as plain values; then, if the training failed, {"error": why}."""
    from centernet.config import resolve
    from centernet.errors import UserError
    from centernet.train import train

    try:
        with closing(train(resolve(values), folder)) as epochs:
            for epoch in epochs:
                yield asdict(epoch)
    except UserError as error:
        yield {"error": str(error)}


def main() -> None:
    """Read {values, folder, code} from the input; `code` is where `centernet` has to come from."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    task = json.loads(sys.stdin.read())
    import centernet

    place = Path(str(centernet.__file__)).resolve()
    if not place.is_relative_to(Path(task["code"]).resolve()):
        sys.exit(f"centernet was imported from {place.parent}, not from {task['code']}")
    for line in replay(task["values"], Path(task["folder"])):
        out.write(json.dumps(line) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
