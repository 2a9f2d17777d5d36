"""The import law and the shape of files, as stated in CONTRIBUTING.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*ROOT.glob("centernet/**/*.py"), *ROOT.glob("experiments/**/*.py")])
# modules and packages of experiments that may import it; nobody else
ONLY = {
    "optuna": {"search_space", "ranges", "samplers", "pruners", "study", "objective", "report"},
    "mlflow": {"tracking", "registry", "serving", "servers"},
    "ray": {"launch"},
}
LEAVES = {
    "structures", "geometry", "encode", "losses", "decode", "ema", "optim", "augment", "backbones", "necks", "layers",
}  # fmt: skip
# geometry: augment's padding value; layers: what backbones and necks are made of; files, finite:
# how backbones read weights that somebody else made
LEAVES_MAY = {"structures", "errors", "seed", "geometry", "layers", "files", "finite"}
ABOVE_CONFIG = {
    "assemble",
    "overfit",
    "presets",
    "train",
    "predict",
    "training",
    "given",
    "configuration",
    "cli",
    "logs",
    "state",
    "config",
}
LIGHT = {"cli", "options", "arguments", "errors", "config", "presets", "settings"}
HEAVY = {"torch", "torchvision", "mlflow", "ray", "albumentations", "optuna", "timm"}


def imports(file: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(file: Path, *, top_level: bool = False) -> set[str]:
    return {name.split(".")[0] for name in imports(file, top_level=top_level)}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_each_library_is_known_only_where_it_may_be(file: Path) -> None:
    package, own = file.relative_to(ROOT).with_suffix("").parts[:2]
    for library, allowed in ONLY.items():
        if package != "experiments" or own not in allowed:
            assert library not in packages(file)
    if package == "centernet":
        assert "experiments" not in packages(file)


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_leaves_do_not_import_each_other(name: str) -> None:
    files = [*ROOT.glob(f"centernet/{name}.py"), *ROOT.glob(f"centernet/{name}/*.py")]
    assert files
    own = {
        n.split(".")[1] for file in files for n in imports(file) if n.startswith("centernet.")
    } - {name}
    assert own <= LEAVES_MAY


@pytest.mark.parametrize("file", sorted(ROOT.glob("centernet/**/*.py")), ids=lambda f: f.stem)
def test_the_config_stops_at_the_assembly(file: Path) -> None:
    if file.stem not in ABOVE_CONFIG:
        assert "centernet.config" not in imports(file)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_light_modules_import_nothing_heavy_at_their_top(file: Path) -> None:
    if file.stem in LIGHT:
        assert not packages(file, top_level=True) & HEAVY


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_and_functions_stay_short_and_nothing_unpickles(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
    assert "import pickle" not in text
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in (
            "torch.load",
            "weights.get_state_dict",
        ):
            assert ("weights_only", "True") in {
                (k.arg, ast.unparse(k.value)) for k in call.keywords
            }


def test_the_tests_of_a_file_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """Else every process builds what they share; pytest-xdist reads the group from the name."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@test_architecture")


# private parts of other packages that are used all the same, each with its reason
PRIVATE = {
    "os._exit": "documented; ends a process whose threads cannot be waited for",
}


def private_reaches(file: Path) -> set[str]:
    """Attributes and modules with a leading underscore that are not an object's own."""
    reaches = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = ast.unparse(node.value)
            own = owner in ("self", "cls") or owner.startswith("super(")
            if not own and not node.attr.endswith("__"):
                reaches.add(f"{owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            if any(name.startswith("_") for name in names) and names[0] != "__future__":
                reaches.add(f"{node.module}: {', '.join(alias.name for alias in node.names)}")
    return reaches


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_private_part_of_another_package_is_used(file: Path) -> None:
    assert private_reaches(file) <= set(PRIVATE)
