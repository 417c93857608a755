"""Publishes a converted model on the Hugging Face hub, with a model card.

    python tools/convert_to_torch.py --checkpoint=runs/tuned --out=torch
    python tools/push_to_hub.py --folder=torch --workdir=runs/tuned --repository=OWNER/NAME \\
        --license=apache-2.0 --dry_run

The card has the data, the schedule with its FLOPs, and the scores with intervals of the workdir, or
those of --evaluation. --dry_run writes it into the folder and lists what would be uploaded. A card
that is in the folder already, for example an edited one, is kept and uploaded as it is. See
docs/released_weights.md.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
from absl import flags, logging

from clipa_jax import runs
from clipa_jax.errors import DataError
from clipa_jax.evaluation import record
from clipa_jax.report import model_card
from clipa_jax.runtime import cli, files, hub
from clipa_jax.weights import open_clip_folder


def main(argv: list[str]) -> None:
    """Writes the card and uploads the folder."""
    del argv
    given = flags.FLAGS
    folder, repository = Path(given.folder), given.repository
    hub.check_name(repository)
    if not open_clip_folder.is_folder(folder):
        state = "is no folder of open_clip" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {state}; convert_to_torch.py makes an open_clip folder")
    card = folder / "README.md"
    if card.exists():
        logging.info("kept %s as it is; to have it written anew, remove it", card)
    else:
        run = runs.read_one(files.Path(given.workdir))
        if not run.stages:
            raise DataError(f"--workdir={given.workdir} holds no stage of a run")
        report = run.stages[-1].evaluation
        if given.evaluation:
            report = record.read_report(Path(given.evaluation))
        _check_weights(folder, report)
        files.write_text(card, model_card.text(repository, given.license, run, report))
        logging.info("wrote %s", card)
    open_clip_folder.name_tokenizer(folder, repository)
    for file in sorted(folder.iterdir()):
        logging.info("%s: %.1f MB", file.name, file.stat().st_size / 1e6)
    if given.dry_run:
        logging.info("nothing was uploaded; read the card, then run this without --dry_run")
        return
    with hub.upload_errors(repository):
        api = huggingface_hub.HfApi()
        api.create_repo(repository, private=given.private, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder)
    logging.info("uploaded to %s", done.commit_url)


def _check_weights(folder: Path, report: Mapping[str, Any] | None) -> None:
    """Raises `DataError` if scores are those of other weights than the folder's."""
    parity = folder / open_clip_folder.PARITY
    known = files.read_json(parity).get("weights") if parity.is_file() else None
    if report and known and report.get("weights", known) != known:
        raise DataError(
            f"{folder} has the weights {known}, but the scores are those of {report['weights']} "
            f"({report['checkpoint']}); give the evaluation.json of these weights as --evaluation"
        )


def start() -> None:
    """Runs the command line."""
    cli.reads_from_disk(
        flags.DEFINE_string("folder", None, "What convert_to_torch wrote.", required=True)
    )
    flags.DEFINE_string("workdir", None, "The run that trained it.", required=True)
    flags.DEFINE_string("repository", None, "OWNER/NAME.", required=True)
    flags.DEFINE_string("license", None, "Such as apache-2.0.", required=True)
    flags.DEFINE_string("evaluation", "", "Scores in place of the run's: an evaluation.json.")
    flags.DEFINE_bool("private", False, "Whether a new repository is private.")
    flags.DEFINE_bool("dry_run", False, "Write the card, and upload nothing.")
    cli.run(main)
