"""The rules of the house that can be read off the syntax trees (docs/architecture.md)."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "clipa_jax"

# A room imports only from its own level and those above it in this list.
LEVELS = (
    ("trees", "durations", "errors", "settings", "quiet", "terminal", "schedules"),
    (
        "models",
        "losses",
        "colours",
        "sharding",
        "preprocess",
        "metrics",
        "distributed",
        "interrupt",
        "fingerprint",
    ),
    ("optim", "data", "checkpoint", "workdir", "state"),
    ("gradients", "steps", "program", "evaluators"),
    # everything else, `import clipa_jax` itself included
)
MODEL_SIDE = (
    "models",
    "losses",
    "colours",
    "sharding",
    "optim",
    "state",
    "gradients",
    "steps",
    "program",
)

MODULES = sorted((ROOT / PACKAGE).rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))
TOOLS = sorted((ROOT / "tools").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def each(*groups: list[Path]):
    files = [file for group in groups for file in group]
    return pytest.mark.parametrize("file", files, ids=name)


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports(file: Path) -> set[str]:
    """Full names of what a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(file)} line {node.lineno}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def level(room: str) -> int:
    return next((index for index, rooms in enumerate(LEVELS) if room in rooms), len(LEVELS))


def room(module: str) -> str:
    """The room of a module of the package: `clipa_jax.data.order` -> `data`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "clipa_jax"


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@each(MODULES)
def test_rooms_import_only_from_above(file):
    here = room(module_of(file))
    for imported in imports(file):
        if imported.split(".")[0] != PACKAGE:
            continue
        there = room(imported)
        assert level(there) <= level(here), (
            f"{name(file)} (level {level(here)}) imports {imported} (level {level(there)})"
        )


def test_every_room_of_the_list_exists():
    rooms = {file.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py") for file in MODULES}
    assert {room for rooms_ in LEVELS for room in rooms_} <= rooms


def test_the_rooms_have_no_cycle():
    """Modules, not rooms: an import inside a function would hide one at run time."""
    graph = {
        module_of(file): {
            other
            for imported in imports(file)
            for other in (imported, imported.rpartition(".")[0])
            if other.startswith(f"{PACKAGE}.") and other != module_of(file)
        }
        for file in MODULES
        if file != ROOT / PACKAGE / "__init__.py"  # its one import waits for `clipa_jax.load`
    }
    state: dict[str, str] = {}

    def visit(module: str, path: list[str]) -> None:
        if state.get(module) == "done" or module not in graph:
            return
        assert state.get(module) != "open", " -> ".join([*path, module])
        state[module] = "open"
        for other in sorted(graph[module]):
            # A package's own modules may be imported by its __init__, and name it.
            if not (module + ".").startswith(other + "."):
                visit(other, [*path, module])
        state[module] = "done"

    for module in graph:
        visit(module, [])


@each(CONFIGS)
def test_configs_import_ml_collections_and_each_other(file):
    legal = {"ml_collections", "configs", *sys.stdlib_module_names}
    assert {imported.split(".")[0] for imported in imports(file)} <= legal


@each(MODULES, TOOLS)
def test_torch_stays_in_the_conversion(file):
    """And in the loader that the data benchmark is compared with."""
    allowed = "convert" in file.parts or "convert" in file.stem or "open_clip" in file.stem
    if not allowed:
        roots = {imported.split(".")[0] for imported in imports(file)}
        assert not roots & {"torch", "torchvision", "open_clip", "safetensors"}


@each(MODULES)
def test_preprocessing_and_model_keep_to_their_framework(file):
    roots = {imported.split(".")[0] for imported in imports(file)}
    here = room(module_of(file))
    if here == "preprocess":
        assert not roots & {"jax", "jaxlib", "flax", "optax"}
    if here in MODEL_SIDE:
        assert not roots & {"tensorflow", "tensorflow_text", "tensorflow_datasets", "clu"}


@each(MODULES, CONFIGS, TOOLS, TESTS)
def test_no_wildcard_imports_and_no_bare_except(file):
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"


@each(MODULES, CONFIGS)
def test_no_print_exit_or_eval_in_library_code(file):
    """`sys.exit` neither; the command lines of cli.py may print."""
    forbidden = {"print", "exit", "quit", "eval", "exec", "breakpoint"}
    if file.stem == "cli":
        forbidden -= {"print"}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in forbidden | {"sys.exit"}, f"line {node.lineno}: {called}"


@each(MODULES, CONFIGS, TOOLS)
def test_modules_and_functions_are_short(file):
    lines = len(file.read_text().splitlines())
    assert lines <= 400, f"{lines} lines"
    model_config = file.parent.name.startswith("model_")
    assert not model_config or lines < 40
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length < 60, f"{node.name} has {length} lines"


@each(MODULES)
def test_public_things_have_docstrings(file):
    """Modules, and public functions and classes at their top."""
    assert ast.get_docstring(tree(file)), "the module"
    for node in tree(file).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_the_model_side_imports_without_tensorflow_or_torch():
    """In a process of its own, where importing either fails."""
    code = f"""
import sys
for missing in ("tensorflow", "tensorflow_text", "tensorflow_datasets", "torch", "clu"):
    sys.modules[missing] = None
for room in {MODEL_SIDE}:
    __import__("{PACKAGE}." + room)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
