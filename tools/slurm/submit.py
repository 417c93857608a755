"""Submits a training to SLURM, one process a GPU.

python tools/slurm/submit.py --nodes=2 --gpus=8 --time=24:00:00 -- --config=... --workdir=...

`--dry-run` prints the command. The environment is passed on (sbatch's default), so an exported key
such as WANDB_API_KEY reaches the processes without appearing on a command line.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("train.sbatch")


def command(args: argparse.Namespace) -> list[str]:
    """The sbatch command."""
    # All GPUs of a node are visible to its processes; JAX gives each the one of its local number.
    options = [
        f"--nodes={args.nodes}",
        f"--ntasks-per-node={args.gpus}",
        f"--gpus-per-node={args.gpus}",
        f"--cpus-per-task={args.cpus}",
        f"--time={args.time}",
        "--export=ALL",
    ]
    options += [f"--partition={args.partition}"] if args.partition else []
    options += [f"--account={args.account}"] if args.account else []
    return ["sbatch", *options, str(SCRIPT), *args.arguments]


def main(argv: list[str]) -> int:
    """Runs or prints the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=8, help="of a node, and processes on it")
    parser.add_argument("--cpus", type=int, default=8, help="cores of a process")
    parser.add_argument("--time", default="24:00:00", help="limit; it is queued again after it")
    parser.add_argument("--partition")
    parser.add_argument("--account")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("arguments", nargs="*", help="of clipa_jax.train, after --")
    args = parser.parse_args(argv)
    if not args.arguments:
        parser.error("the arguments of clipa_jax.train are needed after --")
    print(shlex.join(command(args)), flush=True)
    return 0 if args.dry_run else subprocess.run(command(args), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
