"""Layering and length of modules, as docs/architecture.md states them."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "clipa_jax"

# A package or module imports only from itself and from what stands below it in this list, which
# docs/architecture.md explains. Names in one row may not import each other.
ORDER = (
    ("train", "evaluate"),
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
# Everything that a benchmark of the model needs.
WITHOUT_TENSORFLOW = (
    "models",
    "losses",
    "sharding",
    "training.optim",
    "training.state",
    "training.gradients",
    "training.steps",
    "training.program",
)

# Besides convert/: one reader of weights, and the loader that the data benchmark compares with.
WITH_TORCH = ("clipa_jax/weights/state_file.py", "clipa_jax/benchmark/open_clip_loader.py")

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


def place(module: str) -> str:
    """The name in `ORDER` that a module belongs to: `clipa_jax.data.order` -> `data`."""
    return module.split(".")[1]


def row(name: str) -> int:
    """The row of a name in `ORDER`."""
    return next(index for index, names in enumerate(ORDER) if name in names)


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@each([file for file in MODULES if file != ROOT / PACKAGE / "__init__.py"])
def test_imports_point_down_the_order(file):
    importer = place(module_of(file))
    for imported in imports(file):
        package, _, rest = imported.partition(".")
        # `import clipa_jax` itself is the version and `load`, which waits until it is called.
        if package == PACKAGE and rest.split(".")[0] not in ("", "__version__"):
            target = place(imported)
            below = row(target) > row(importer) or target == importer
            assert below, f"{name(file)} imports {imported}, which does not stand below it"


def test_the_order_names_what_there_is():
    there = {
        path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")
        for path in MODULES
        if path != ROOT / PACKAGE / "__init__.py"
    }
    listed = {name for names in ORDER for name in names}
    assert there - listed == set()


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


@each([file for file in MODULES + TOOLS if name(file) not in WITH_TORCH])
def test_only_conversion_and_one_reader_of_weights_import_torch(file):
    if name(file.parent) == f"{PACKAGE}/convert":
        return
    roots = {imported.split(".")[0] for imported in imports(file)}
    assert not roots & {"torch", "torchvision", "open_clip", "timm", "transformers"}


@each([file for file in MODULES if file.parent.name != "weights"])
def test_only_weights_imports_safetensors(file):
    assert not {imported.split(".")[0] for imported in imports(file)} & {"safetensors"}


@each([file for file in MODULES if file.is_relative_to(ROOT / PACKAGE / "preprocess")])
def test_preprocessing_does_not_import_jax(file):
    roots = {imported.split(".")[0] for imported in imports(file)}
    assert not roots & {"jax", "jaxlib", "flax", "optax"}


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


def test_model_and_update_import_without_tensorflow_or_torch():
    """In a process of its own, where importing either fails."""
    code = f"""
import sys
for missing in ("tensorflow", "tensorflow_text", "tensorflow_datasets", "torch", "clu"):
    sys.modules[missing] = None
for module in {WITHOUT_TENSORFLOW}:
    __import__("{PACKAGE}." + module)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
