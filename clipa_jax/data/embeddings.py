"""Embeddings of a split in files, in the layout of clip-retrieval.

FOLDER/img_emb/img_emb_0.npy, text_emb/text_emb_0.npy and metadata/metadata_0.parquet have the same
rows, those of one part of the split; embedding.json says where all of them come from. A part is
finished when its metadata are there, which are written last. N rows, E embedding.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipa_jax.errors import DataError
from clipa_jax.runtime import files

IMAGE, TEXT, METADATA, INFO = "img_emb", "text_emb", "metadata", "embedding.json"
POSITION, KEY, CAPTION, SIMILARITY = "position", "image_path", "caption", "similarity"


class Folder:
    """The folder of a split's embeddings, for writing.

    Args:
      info: source, split, checkpoint and what else the embeddings depend on, for JSON.
      num_parts: of the split.

    Raises:
      DataError: the folder has embeddings of another kind.
    """

    def __init__(self, path: str, info: Mapping[str, Any], num_parts: int):
        self._path, self._digits = Path(path), len(str(max(num_parts - 1, 0)))
        file = self._path / INFO
        if file.exists():
            before = files.read_json(file)
            changed = [key for key in info if before.get(key) != info[key]]
            if changed:
                raise DataError(
                    f"{path} has embeddings with {changed[0]}={before.get(changed[0])!r}, but now "
                    f"it is {info[changed[0]]!r}; give the old one to continue, or another folder"
                )
        self._info, self.finished = dict(info), 0
        while self._file(METADATA, self.finished).exists():
            self.finished += 1

    def write(
        self, arrays: Mapping[str, np.ndarray], columns: Mapping[str, Any], skipped: dict[str, int]
    ) -> None:
        """Writes the next part.

        Args:
          arrays: (N, E) by kind, `IMAGE` or `TEXT`.
          columns: of the metadata.
          skipped: bad samples of the part by reason.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        files.write_json(self._path / INFO, self._info)
        for kind, z_NE in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, z_NE, allow_pickle=False)
            self._put(kind, buffer.getbuffer())
        table = pa.table(dict(columns))
        notes = {f"skipped_{reason}": str(count) for reason, count in skipped.items()}
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(notes), sink)
        self._put(METADATA, sink.getbuffer())
        self.finished += 1

    def _put(self, kind: str, content: Any) -> None:
        file = self._file(kind, self.finished)
        file.parent.mkdir(exist_ok=True)
        files.write_bytes(file, content)

    def _file(self, kind: str, part: int) -> Path:
        suffix = "parquet" if kind == METADATA else "npy"
        return self._path / kind / f"{kind}_{part:0{self._digits}d}.{suffix}"


def skipped(folder: str) -> dict[str, int]:
    """Bad samples of all parts by reason."""
    counts: dict[str, int] = {}
    for file in _parts(folder, METADATA):
        for key, count in (pq.read_schema(file).metadata or {}).items():
            reason = key.decode().removeprefix("skipped_")
            if reason != key.decode():
                counts[reason] = counts.get(reason, 0) + int(count)
    return counts


def info(folder: str) -> dict[str, Any]:
    """What the embeddings come from; raises `DataError` where there are none."""
    if not files.exists(Path(folder) / INFO):
        raise DataError(
            f"no embeddings in {folder}; python -m clipa_jax.embed --out={folder} makes them"
        )
    return files.read_json(Path(folder) / INFO)


def read(folder: str, kind: str) -> np.ndarray:
    """All embeddings of a kind, float32 (N, E)."""
    arrays = [np.load(file, allow_pickle=False) for file in _parts(folder, kind)]
    return np.concatenate(arrays).astype(np.float32)


def column(folder: str, name: str) -> pa.ChunkedArray:
    """A column of the metadata, (N,); raises `DataError` where there is none."""
    schema = pq.read_schema(_parts(folder, METADATA)[0])
    if name not in schema.names:
        has = ", ".join(schema.names)
        raise DataError(f"{folder} has no {name!r} among its metadata, {has}")
    return pa.concat_tables(
        pq.read_table(file, columns=[name]) for file in _parts(folder, METADATA)
    )[name]


def scores(folder: str, source: str, split: str, samples: int) -> np.ndarray:
    """The similarity of each sample of a split, float32 (samples,); NaN for bad ones.

    Raises `DataError` if the folder has no scores, not all of them, or those of other data.
    """
    about, wanted = info(folder), {"source": source, "split": split, "samples": samples}
    for key, value in wanted.items():
        if about.get(key) != value:
            raise DataError(f"{folder} has scores of {key} {about.get(key)!r}, expected {value!r}")
    parts = -(-samples // about["part_size"])
    if len(_parts(folder, METADATA)) < parts:
        raise DataError(f"{folder} is not finished; run python -m clipa_jax.embed again")
    scores_N = np.full(samples, np.nan, np.float32)
    scores_N[column(folder, POSITION).to_numpy()] = column(folder, SIMILARITY).to_numpy()
    return scores_N


def _parts(folder: str, kind: str) -> list[Path]:
    parts = sorted((Path(folder) / kind).glob(f"{kind}_*"))
    if not parts:
        raise DataError(f"{folder} has no {kind}/{kind}_*; see python -m clipa_jax.embed")
    return parts
