"""Creates, sets up, runs and deletes a TPU slice; TPU_USAGE.md shows the steps.

python tools/tpu/pod.py create --name=NAME --zone=ZONE --type=v5litepod-64 --spot
python tools/tpu/pod.py setup  --name=NAME --zone=ZONE
python tools/tpu/pod.py each   --name=NAME --zone=ZONE -- 'SHELL COMMAND'
python tools/tpu/pod.py run    --name=NAME --zone=ZONE --run=RUN -- --config=... --workdir=...
python tools/tpu/pod.py logs | status | stop --name=NAME --zone=ZONE --run=RUN
python tools/tpu/pod.py delete --name=NAME --zone=ZONE
python tools/tpu/pod.py keep   --name=NAME --zone=ZONE --type=v5litepod-64 --run=RUN \\
    --price=0.6 --max-dollars=5000 -- --config=... --workdir=gs://BUCKET/W

`keep` creates a spot slice, sets it up and starts the run; it repeats this whenever the slice is
preempted, until the run has finished, and then deletes the slice.
`--dry-run` prints the commands instead of running them. Needs only the gcloud command line. Secrets
are copied as a file (`secrets`), never passed on a command line.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import keep

ROOT = Path(__file__).parents[2]
HOME = "clipa_jax"  # the code on a worker, below the home folder
# Runtime version of Cloud TPU by the prefix of the type.
RUNTIMES = {
    "v6e": "v2-alpha-tpuv6e",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v4": "tpu-ubuntu2204-base",
}
Command = list[str]


def create(args: argparse.Namespace) -> Iterator[Command]:
    """Requests the slice: through the queue, or directly with --direct."""
    runtime = args.runtime or RUNTIMES.get(args.type.split("-")[0])
    if runtime is None:
        raise SystemExit(f"error: no runtime is known for {args.type}; give it with --runtime=")
    options = [f"--zone={args.zone}", f"--accelerator-type={args.type}"]
    options += ["--spot"] if args.spot else []
    options += [f"--service-account={args.service_account}"] if args.service_account else []
    if args.direct:
        yield _tpus("tpu-vm", "create", args.name, f"--version={runtime}", *options)
        return
    node = [f"--node-id={args.name}", f"--runtime-version={runtime}"]
    options += [f"--valid-until-duration={args.valid_until}"] if args.valid_until else []
    yield _tpus("queued-resources", "create", args.name, *node, *options)


def setup(args: argparse.Namespace) -> Iterator[Command]:
    """Copies the committed code to every worker and installs its requirements.

    uv downloads Python 3.12, since images of TPU VMs may have an older one.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive = "clipa_jax.tar.gz"
        packed = str(Path("/tmp" if args.dry_run else folder) / archive)
        yield ["git", "-C", str(ROOT), "archive", "--format=tar.gz", f"--output={packed}", "HEAD"]
        yield _copy(args, packed, archive)
        yield _everywhere(
            args,
            f"mkdir -p {HOME} && tar -xzf {archive} -C {HOME} && cd {HOME} && "
            "export PATH=$HOME/.local/bin:$PATH && "
            "(command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh) && "
            "(test -x .venv/bin/python || uv venv --quiet --python 3.12) && "
            "uv pip install --quiet -r requirements-tpu.txt && "
            "uv pip install --quiet --no-deps --editable .",
        )


def secrets(args: argparse.Namespace) -> Iterator[Command]:
    """Copies a file of lines NAME=value to every worker, readable by its owner only."""
    yield _everywhere(args, "umask 077 && mkdir -p .config/clipa_jax")
    yield _copy(args, args.file, ".config/clipa_jax/env")
    yield _everywhere(args, "chmod 600 .config/clipa_jax/env")


def each(args: argparse.Namespace) -> Iterator[Command]:
    """Runs a shell command on every worker, such as mounting a disk."""
    if len(args.arguments) != 1:
        raise SystemExit("error: one shell command is needed after --, in quotes")
    yield _everywhere(args, args.arguments[0])


def run(args: argparse.Namespace) -> Iterator[Command]:
    """Starts the training on every worker, detached from this connection."""
    train = [".venv/bin/python", "-m", "clipa_jax.train", *args.arguments]
    if not args.arguments:
        raise SystemExit("error: the arguments of clipa_jax.train are needed after --")
    worker = ["tools/tpu/worker.sh", _folder(args), str(args.restarts), *train]
    started = f"setsid nohup {shlex.join(worker)} > /dev/null 2>&1 < /dev/null &"
    running = f'echo "{args.run} is running already"; exit 1'
    # `cd ... && ... &` would start a background shell that keeps the connection open.
    enter = f"cd {HOME} || exit 1"
    yield _everywhere(args, f"if {_is_running(args)}; then {running}; fi; {enter}; {started}")


def stop(args: argparse.Namespace) -> Iterator[Command]:
    """Tells the run on every worker to save and end; with --now, to end without a checkpoint."""
    ask = f'kill -TERM "$(cat {HOME}/{_folder(args)}/pid)"'
    ask += f" && sleep 1 && {ask}" if args.now else ""
    yield _everywhere(args, f'if {_is_running(args)}; then {ask}; else echo "not running"; fi')


def status(args: argparse.Namespace) -> Iterator[Command]:
    """Shows the state of the slice in the queue, and of the run on each worker."""
    yield _tpus("tpu-vm", "list", f"--zone={args.zone}", f"--filter=name~{args.name}")
    if not args.direct:
        wanted = "--format=value(state.state)"
        yield _tpus("queued-resources", "describe", args.name, f"--zone={args.zone}", wanted)
    if args.run:
        folder = f"{HOME}/{_folder(args)}"
        yield _everywhere(
            args,
            f'if {_is_running(args)}; then echo "running as $(cat {folder}/pid)"; '
            f'else echo "ended with status $(cat {folder}/status)"; fi; tail -n 2 {folder}/log',
        )


def logs(args: argparse.Namespace) -> Iterator[Command]:
    """Follows the log of process 0."""
    yield _ssh(args, args.worker, f"tail -n 100 -F {HOME}/{_folder(args)}/log")


def keep_running(args: argparse.Namespace) -> int:
    """Recreates a preempted spot slice until the run has finished."""
    describe = _tpus("queued-resources", "describe", args.name, f"--zone={args.zone}")
    folder = f"{HOME}/{_folder(args)}"
    ask = _everywhere(
        args,
        f"if {_is_running(args)}; then echo running; elif [ -f {folder}/status ]; then "
        f'echo "ended $(cat {folder}/status)"; else echo fresh; fi',
    )
    steps = {f.__name__: f for f in (create, setup, secrets, run, stop, delete)}
    steps["logs"] = lambda args: iter([_ssh(args, "0", f"tail -n 100 {folder}/log")])
    function = keep.show if args.dry_run else keep.keep
    return function(args, steps, [*describe, "--format=value(state.state)"], ask)


def delete(args: argparse.Namespace) -> Iterator[Command]:
    """Deletes the slice with its disks."""
    options = [f"--zone={args.zone}", *(["--quiet"] if args.yes else [])]
    if args.direct:
        yield _tpus("tpu-vm", "delete", args.name, *options)
    else:
        yield _tpus("queued-resources", "delete", args.name, *options, "--force")


def _tpus(*arguments: str) -> Command:
    return ["gcloud", "compute", "tpus", *arguments]


def _ssh(args: argparse.Namespace, worker: str, command: str) -> Command:
    target = ["ssh", args.name, f"--zone={args.zone}", f"--worker={worker}"]
    return _tpus("tpu-vm", *target, f"--command={command}")


def _everywhere(args: argparse.Namespace, command: str) -> Command:
    return _ssh(args, "all", command)


def _copy(args: argparse.Namespace, source: str, to: str) -> Command:
    return _tpus(
        "tpu-vm", "scp", source, f"{args.name}:{to}", f"--zone={args.zone}", "--worker=all"
    )


def _folder(args: argparse.Namespace) -> str:
    """The folder of a run's log and process id, below the code."""
    return f"runs/{args.run}"


def _is_running(args: argparse.Namespace) -> str:
    """A shell test whether the process in the pid file belongs to this run."""
    folder = _folder(args)
    process = f'"/proc/$(cat {HOME}/{folder}/pid 2>/dev/null)/cmdline"'
    return f"tr '\\0' '\\n' 2>/dev/null < {process} | grep -qxF {folder}"


def _name(text: str) -> str:
    if not text or not set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_."):
        raise argparse.ArgumentTypeError(f"{text!r} may hold a-z, 0-9, '-', '_' and '.' only")
    return text


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for function in (create, setup, secrets, each, run, status, logs, stop, delete, keep_running):
        name = function.__name__.removesuffix("_running")
        command = commands.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        command.set_defaults(function=function)
        command.add_argument("--name", type=_name, required=True, help="of the slice")
        command.add_argument("--zone", type=_name, required=True, help="e.g. us-west4-a")
        command.add_argument("--dry-run", action="store_true", help="print the commands only")
        if function in (create, status, delete):
            command.add_argument("--direct", action="store_true", help="without the queue")
        if function in (run, status, logs, stop, keep_running):
            command.add_argument(
                "--run", type=_name, required=function is not status, help="its name"
            )
    options = commands.choices
    for option in (options["create"], options["keep"]):
        option.add_argument("--type", required=True, help="e.g. v5litepod-64")
        option.add_argument("--runtime", help="software; by default the type's")
        option.add_argument("--service-account", help="what the machines act as")
        option.add_argument("--valid-until", help="leave the queue after, e.g. 6h")
    options["create"].add_argument("--spot", action="store_true", help="cheaper, may be preempted")
    options["secrets"].add_argument("--file", required=True, help="of lines NAME=value")
    options["each"].add_argument("arguments", nargs="*", help="the command, after --")
    for option in (options["run"], options["keep"]):
        option.add_argument("--restarts", type=int, default=3, help="after a failure")
        option.add_argument("arguments", nargs="*", help="of clipa_jax.train, after --")
    _add_bounds(options["keep"])
    options["logs"].add_argument("--worker", type=_name, default="0")
    options["stop"].add_argument("--now", action="store_true", help="without a checkpoint")
    options["delete"].add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args(argv)


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    """The options of `keep` alone."""
    add = parser.add_argument
    add("--price", type=float, required=True, help="dollars for an hour of one chip")
    add("--max-dollars", type=float, required=True, help="then save, stop and delete the slice")
    add("--attempts", type=int, default=50, help="most slices to create")
    add("--poll", type=float, default=60, help="seconds between checks")
    add("--file", help="secrets, see the command secrets")
    add("--state", default="keep.json", help="file with the hours spent; one for each run")
    parser.set_defaults(spot=True, direct=False, now=False, yes=True)


def main(argv: list[str]) -> int:
    """Runs or prints the commands; the status of the first that fails."""
    args = parse(argv)
    if args.command == "keep":
        return keep_running(args)
    for command in args.function(args):
        print(shlex.join(command), flush=True)
        if args.dry_run:
            continue
        began = time.monotonic()
        failed = subprocess.run(command, check=False).returncode
        if failed:
            print(f"failed with status {failed} after {time.monotonic() - began:.0f} s")
            return failed
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
