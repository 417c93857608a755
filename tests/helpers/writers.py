"""The same samples in every format; a None among the fields leaves one out."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

SUFFIXES = {"image": "png", "captions": "txt", "label": "cls"}


def shards(samples: list[dict], lengths) -> Iterator[tuple[int, list[dict]]]:
    rest = iter(samples)
    for shard, length in enumerate(lengths):
        yield shard, [next(rest) for _ in range(length)]


def raw(value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def members(fields: dict) -> dict[str, bytes]:
    """What a sample consists of in a tar or a folder: content by suffix."""
    found = {SUFFIXES.get(n, n): v for n, v in fields.items() if v is not None and n != "id"}
    if isinstance(found.get("txt"), list):
        found["json"] = json.dumps({"captions": found.pop("txt")})
    return {suffix: raw(value) for suffix, value in found.items()}


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_tars(folder: Path, samples: list[dict], lengths) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for shard, part in shards(samples, lengths):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for fields in part:
                for suffix, content in members(fields).items():
                    add(tar, f"{fields['id']}.{suffix}", content)
    return f"webdataset:{folder}/{{00000..{len(lengths) - 1:05d}}}.tar"


def write_folder(folder: Path, samples: list[dict]) -> str:
    """One shard, whose order is that of the names."""
    for number, fields in enumerate(samples):
        place = folder / f"part{number // 20:03d}"
        place.mkdir(parents=True, exist_ok=True)
        for suffix, content in members(fields).items():
            (place / f"{number:05d}.{suffix}").write_bytes(content)
    return f"folder:{folder}"


def write_table(folder: Path, samples: list[dict]) -> str:
    """Pictures and a JSONL file that has them in its own order."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "captions.jsonl").open("w") as table:
        for number, fields in reversed(list(enumerate(samples))):
            (folder / f"{number}.png").write_bytes(fields["image"])
        for number, fields in enumerate(samples):
            row = {
                "file_name": f"{number}.png",
                **{k: v for k, v in fields.items() if k != "image"},
            }
            table.write(json.dumps(row) + "\n")
    return f"folder:{folder / 'captions.jsonl'}"


def write_parquet(
    folder: Path, samples: list[dict], lengths, *, nested: bool = True, group: int = 5
) -> str:
    """As Hugging Face has it, or with the bytes as they are; in row groups of `group`."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, part in shards(samples, lengths):
        pictures = [fields["image"] for fields in part]
        columns = {
            "image": [{"bytes": p, "path": None} for p in pictures] if nested else pictures,
            "caption": [fields["captions"] for fields in part],
            "key": [fields["id"] for fields in part],
            "label": [fields["label"] for fields in part],
        }
        parquet.write_table(
            pa.table(columns), folder / f"{shard:05d}.parquet", row_group_size=group
        )
    return f"parquet:{folder}/*.parquet"
