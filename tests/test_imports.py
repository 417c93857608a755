"""Layering, frameworks and length of modules, as docs/architecture.md states them."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "clipa_jax"

# A package or module imports only from itself and from what stands below it in this list, which
# docs/architecture.md explains. Names in one row may not import each other.
ORDER = (
    ("commands",),
    ("train", "evaluate", "embed"),
    ("prepare",),
    ("report",),
    ("runs",),
    ("benchmark",),
    ("planning",),
    ("evaluation", "convert"),
    ("loading",),
    ("weights",),
    ("training",),
    ("evaluators",),
    ("data",),
    ("preprocess",),
    ("models", "losses"),
    ("sharding",),
    ("runtime",),
    ("config",),
    ("trees",),
    ("errors",),
)
# Used by benchmarks of the model and by readers of results.
WITHOUT_TENSORFLOW = (
    "models",
    "losses",
    "sharding",
    "training.optim",
    "training.state",
    "training.gradients",
    "training.steps",
    "training.program",
    "training.metrics",
    "runs",
    "runtime.progress",
)

QUIET = ("preprocess", "data", "prepare")  # importing the package holds the messages back

# Besides convert/: one reader of weights, and the loader that the data benchmark compares with.
WITH_TORCH = (
    "clipa_jax/weights/state_file.py",
    "clipa_jax/benchmark/open_clip_loader.py",
    "clipa_jax/benchmark/open_clip_step.py",
)

MODULES = sorted((ROOT / PACKAGE).rglob("*.py"))
SCRIPTS = [
    file for folder in ("configs", "tools") for file in sorted((ROOT / folder).rglob("*.py"))
]


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports(file: Path) -> set[str]:
    """Full names of what a file imports, wherever the import stands."""
    names = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(file)} line {node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def roots(file: Path) -> set[str]:
    """Top-level packages that a file imports."""
    return {imported.split(".")[0] for imported in imports(file)}


def place(module: str) -> str:
    """The name in `ORDER` that a module belongs to: `clipa_jax.data.order` -> `data`."""
    return module.split(".")[1]


def row(name: str) -> int:
    """The row of a name in `ORDER`."""
    return next(index for index, names in enumerate(ORDER) if name in names)


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_imports_point_down_the_order():
    for file in MODULES:
        # `__init__` imports `loading` when `load` is called; others import only its version.
        if file == ROOT / PACKAGE / "__init__.py":
            continue
        importer = place(module_of(file))
        for imported in imports(file) - {PACKAGE, f"{PACKAGE}.__version__"}:
            if imported.split(".")[0] == PACKAGE:
                target = place(imported)
                below = row(target) > row(importer) or target == importer
                assert below, f"{name(file)} imports {imported}, which does not stand below it"


def test_every_package_and_module_has_a_place_in_the_order():
    places = {file.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py") for file in MODULES}
    assert places - {"__init__"} <= {name for names in ORDER for name in names}


def test_modules_have_no_import_cycle():
    """Imports inside of functions count too."""
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


def test_torch_is_imported_only_by_conversion_and_one_reader_of_weights():
    """And by what the benchmarks are compared with."""
    torch = {"torch", "torchvision", "open_clip", "timm", "transformers"}
    users = {name(file) for file in [*MODULES, *SCRIPTS] if roots(file) & torch}
    outside = {user for user in users if not user.startswith("clipa_jax/convert/")}
    assert outside == set(WITH_TORCH)


def test_only_weights_imports_safetensors():
    users = {file.parent.name for file in [*MODULES, *SCRIPTS] if "safetensors" in roots(file)}
    assert users == {"weights"}


def test_the_start_up_messages_of_tensorflow_are_held_back_wherever_it_is_imported():
    for file in MODULES:
        if "tensorflow" in roots(file) and place(module_of(file)) not in QUIET:
            first = next(node for node in tree(file).body if isinstance(node, ast.Import))
            assert first.names[0].name == "clipa_jax.preprocess", name(file)


def test_preprocessing_does_not_import_jax():
    for file in (ROOT / PACKAGE / "preprocess").rglob("*.py"):
        assert not roots(file) & {"jax", "jaxlib", "flax", "optax"}, name(file)


def test_modules_and_functions_are_short():
    for file in [*MODULES, *SCRIPTS]:
        lines = len(file.read_text().splitlines())
        assert lines <= 400, f"{name(file)}: {lines} lines"
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length < 60, f"{name(file)}: {node.name} has {length} lines"


def test_at_most_nine_modules_lie_at_the_top_of_the_package():
    assert len(list((ROOT / PACKAGE).glob("*.py"))) <= 9


def test_model_and_update_import_without_tensorflow_or_torch():
    """In a process of its own, where importing either fails."""
    code = f"""
import sys
for missing in ("tensorflow", "tensorflow_text", "tensorflow_datasets", "torch"):
    sys.modules[missing] = None
for module in {WITHOUT_TENSORFLOW}:
    __import__("{PACKAGE}." + module)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
