"""Finds the pictures that are nearest to a text among embeddings, and draws them.

    python -m clipa_jax.embed --checkpoint=runs/demo --source=folder:pictures --out=embeddings
    python tools/search.py --embeddings=embeddings --query='a red house' --out=neighbors.png

The pictures are read from the source that was embedded. For millions of them build an index from
the same files, for example with autofaiss (docs/embeddings.md).
"""

import numpy as np
from absl import flags, logging

import clipa_jax
from clipa_jax.data import embeddings, eval_batches
from clipa_jax.prepare import charts
from clipa_jax.runtime import cli


def main(argv: list[str]) -> None:
    """Embeds the query, ranks the pictures, and draws the first ones."""
    del argv
    given = flags.FLAGS
    folder, about = given.embeddings, embeddings.info(given.embeddings)
    model = clipa_jax.load(given.checkpoint or about["checkpoint"])
    z_NE = embeddings.read(folder, embeddings.IMAGE)
    similarity_N = z_NE @ model.encode_text(given.query)[0]
    best = np.argsort(-similarity_N)[: given.count]
    position = embeddings.column(folder, embeddings.POSITION).to_numpy()[best]
    names = embeddings.column(folder, embeddings.KEY).to_pylist()
    texts = [f"{similarity_N[row]:.3f}  {names[row]}" for row in best]
    split = eval_batches.Split(about["source"], about["split"], about["preprocess"], len(best))
    charts.contact_sheet(split.pictures(position), texts, given.out, title=given.query)
    for text in texts:
        cli.say(text)
    logging.info("wrote %s", given.out)


def start() -> None:
    """Runs the command line."""
    cli.reads_from_disk(
        flags.DEFINE_string("embeddings", None, "The folder that embed made.", required=True)
    )
    flags.DEFINE_string("query", None, "The text.", required=True)
    cli.writes_to_disk(flags.DEFINE_string("out", "neighbors.png", "The PNG with the pictures."))
    flags.DEFINE_integer("count", 12, "Of pictures.", lower_bound=1)
    flags.DEFINE_string("checkpoint", "", "Where the model is now, if it was moved.")
    cli.run(main)
