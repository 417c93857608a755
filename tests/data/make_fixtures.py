"""Makes tests/data/fixtures anew, with the real tools in an environment of their own.

Python 3.10, with img2dataset==1.47.0 "numpy<2" pillow tensorflow-cpu==2.16.2
tensorflow-io==0.37.1 wandb==0.18.7 "protobuf<5" "setuptools<80", then

    ENV/bin/python tests/data/make_fixtures.py

The pictures are drawn here, so they have no licence but that of this repository. They are
served on the loopback address, from where img2dataset fetches them as from anywhere; a link
that leads nowhere and one to something that is no picture are among them, as in the world.
"""

import functools
import http.server
import io
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent / "fixtures"
COUNT, PER_SHARD = 20, 8
OUTPUTS = {"img2dataset_tfrecord": "tfrecord", "img2dataset_webdataset": "webdataset"}


def picture(number: int) -> bytes:
    """A JPEG of two colours."""
    y, x = np.mgrid[0:24, 0:32]
    left = x * 24 < y * 32
    colours = np.array([[number * 12, 40, 200], [250, number * 9 + 20, 30]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours[left.astype(int)]).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    """A web server on the loopback address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Draws, serves, fetches, and notes where it all came from."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(COUNT):
            (folder / f"{number}.jpg").write_bytes(picture(number))
        (folder / "text.jpg").write_text("no picture")
        server = serve(folder)
        place = f"http://127.0.0.1:{server.server_address[1]}"
        names = [*range(COUNT), "text", "nowhere"]
        rows = [{"url": f"{place}/{n}.jpg", "caption": f"picture {n}"} for n in names]
        (folder / "urls.json").write_text(json.dumps(rows))
        for name, kind in OUTPUTS.items():
            shutil.rmtree(HERE / name, ignore_errors=True)
            command = [
                str(Path(sys.executable).parent / "img2dataset"),
                f"--url_list={folder / 'urls.json'}", "--input_format=json", "--url_col=url",
                "--caption_col=caption", f"--output_format={kind}",
                f"--output_folder={HERE / name}",
                "--resize_mode=no", f"--number_sample_per_shard={PER_SHARD}",
                "--processes_count=1", "--thread_count=1", "--enable_wandb=False",
                "--disallowed_header_directives=[]",
            ]  # fmt: skip
            subprocess.run(command, check=True)
            for other in [*(HERE / name).glob("*.parquet"), *(HERE / name).glob("*_stats.json")]:
                other.unlink()
        versions = {n: metadata.version(n) for n in ("img2dataset", "webdataset", "pillow")}
        note = {
            "made by": "tests/data/make_fixtures.py",
            "with": versions,
            "last command": command[1:],
        }
        (HERE / "provenance.json").write_text(
            json.dumps(note, indent=1).replace(temporary, "TMP").replace(str(HERE), HERE.name)
            + "\n"
        )


if __name__ == "__main__":
    main()
