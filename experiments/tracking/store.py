"""Where the runs and models are: MLflow's client of it, and what it says when it refuses."""

import sqlite3
from typing import Any, cast

import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from centernet.errors import UserError
from centernet.lock import exclusive
from experiments.settings import Settings, sqlite_file
from experiments.stores import sqlite
from experiments.stores.retry import Away, Retry, Waiting

LONGEST = 300  # characters of what a server answers: it may be a whole page
WHO = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def connect(settings: Settings) -> MlflowClient:
    """A client of the tracking server or database; UserError if it cannot be reached."""
    file = sqlite_file(settings.tracking_uri)
    try:
        with exclusive(settings.runs / ".setup.lock"):
            if file is not None:
                sqlite.prepare(file)
            client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
        client.search_experiments(max_results=1)  # at once: nobody waits for a wrong address
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError) as error:
        kind = Away if away(error) else UserError
        raise kind(f"MLflow at {settings.tracking_uri}: {reason(error)}") from None
    except ValueError as error:  # a variable of MLflow's that is no number
        raise UserError(f"MLflow at {settings.tracking_uri}: {reason(error)}") from None
    waiting: Any = Waiting(client, Retry(is_away=away, seconds=settings.outage_minutes * 60))
    return cast(MlflowClient, waiting)


def reason(error: Exception) -> str:
    """What a store says in its error: the first line, and not all of a long one."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = lines[0] if len(lines[0]) <= LONGEST else f"{lines[0][:LONGEST]} ..."
    refused = getattr(error, "error_code", "") in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
    return f"{said}; {WHO}" if refused else said


def refusal(error: Exception) -> str | None:
    """What MLflow says in an error of its own, in a line; none for any other error."""
    return reason(error) if isinstance(error, MlflowException) else None


def away(error: BaseException) -> bool:
    """Whether this says that the store did not answer, was busy, or wrote the same row just now."""
    passing = (OperationalError, IntegrityError, requests.RequestException)
    if isinstance(error, MlflowException):
        causes = (error.__cause__, error.__context__)
        unavailable = error.error_code == "TEMPORARILY_UNAVAILABLE"
        return unavailable or any(isinstance(cause, passing) for cause in causes)
    return isinstance(error, passing)
