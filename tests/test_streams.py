"""Both programs where a standard stream, the current folder or a character is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = ("centernet", "experiments")


def run(words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&-", "2>&- 1>&- 0<&-"])
def test_a_closed_stream_changes_no_exit_status_and_gives_its_number_to_no_file(
    tmp_path: Path, name: str, closed: str
) -> None:
    code = (
        f"import sys, os; from {name}.cli import prepare; prepare(); "
        f"file = open({str(tmp_path / 'file')!r}, 'w'); assert file.fileno() > 2; "
        "print('out'); print('err', file=sys.stderr); sys.exit(3)"
    )
    done = run(f'"{sys.executable}" -c "{code}" {closed}')
    assert done.returncode == 3
    assert done.stdout == ("" if "1>" in closed else "out\n")
    assert done.stderr == ("" if "2>" in closed else "err\n")
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_deleted_folder_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "gone").mkdir()
    code = f"from {name}.cli import program; program()"
    command = "config" if name == "centernet" else "models"
    done = run(
        f'rmdir ../gone; "{sys.executable}" -c "{code}" {command}',
        cwd=tmp_path / "gone",
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"{name}: the current folder was deleted; cd to one that is there\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_character_that_a_screen_does_not_know_is_written_as_its_code(encoding: str) -> None:
    code = r"from centernet.cli import prepare; prepare(); print('\udcff\u00fc')"
    done = run(f'PYTHONIOENCODING={encoding} "{sys.executable}" -c "{code}"')
    assert done.returncode == 0 and done.stdout.startswith("\\udcff"), done.stderr


def test_warnings_of_libraries_are_on_no_users_screen_but_on_a_developers() -> None:
    code = "from centernet.cli import prepare; prepare(); import warnings; warnings.warn('raw')"
    for option, shown in (("", False), ("-W default", True)):
        done = run(f'env -u PYTHONWARNINGS "{sys.executable}" {option} -c "{code}"')
        assert done.returncode == 0 and ("raw" in done.stderr) == shown


def test_charts_need_no_backend_that_somebody_named() -> None:
    code = "from centernet.cli import prepare; prepare(); import matplotlib"
    assert run(f'MPLBACKEND=nonsense "{sys.executable}" -c "{code}"').returncode == 0
