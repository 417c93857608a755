"""Finds the pictures that are nearest to a text among embeddings, and draws them.

    python -m clipa_jax.embed --checkpoint=runs/demo --source=folder:pictures --out=embeddings
    python tools/search.py --embeddings=embeddings --query='a red house' --out=neighbors.png

The pictures are read from the source that was embedded. For millions of them build an index from
the same files, for example with autofaiss (docs/embeddings.md).
"""

import functools

import numpy as np
from absl import flags, logging

import clipa_jax
from clipa_jax.data import embeddings, evaluation
from clipa_jax.prepare import charts
from clipa_jax.runtime import cli

FOLDER = flags.DEFINE_string("embeddings", None, "The folder that embed made.", required=True)
QUERY = flags.DEFINE_string("query", None, "The text.", required=True)
OUT = flags.DEFINE_string("out", "neighbors.png", "The PNG with the pictures.")
COUNT = flags.DEFINE_integer("count", 12, "Of pictures.", lower_bound=1)
CHECKPOINT = flags.DEFINE_string("checkpoint", "", "Where the model is now, if it was moved.")


def main(argv: list[str]) -> None:
    """Embeds the query, ranks the pictures, and draws the first ones."""
    del argv
    about = embeddings.info(FOLDER.value)
    model = clipa_jax.load(CHECKPOINT.value or about["checkpoint"])
    z_NE = embeddings.read(FOLDER.value, embeddings.IMAGE)
    similarity_N = z_NE @ model.encode_text(QUERY.value)[0]
    best = np.argsort(-similarity_N)[: COUNT.value]
    position = embeddings.column(FOLDER.value, embeddings.POSITION).to_numpy()[best]
    names = embeddings.column(FOLDER.value, embeddings.KEY).to_pylist()
    texts = [f"{similarity_N[row]:.3f}  {names[row]}" for row in best]
    source = about["source"], about["split"], about["preprocess"], len(best)
    pictures = evaluation.pictures(*source, position)
    charts.contact_sheet(pictures, texts, OUT.value, title=QUERY.value)
    for text in texts:
        cli.say(text)
    logging.info("wrote %s", OUT.value)


start = functools.partial(cli.run, main)
