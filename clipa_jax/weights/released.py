"""The released CLIPA models by short name.

The scores are zero-shot top-1 accuracies in percent from open_clip's docs/openclip_results.csv
(June 2026), measured with open_clip's numerics: exact GELU and a layer norm epsilon of 1e-5. The
weights were trained with the tanh approximation and 1e-6, which apply here.
"""

from dataclasses import dataclass

from clipa_jax.errors import ConfigError, unknown
from clipa_jax.runtime.hub import PREFIX

# Keys of both towers' configs; none for what the files state.
NUMERICS: dict[str, dict[str, str | float]] = {
    "clipa": {"gelu": "tanh", "norm_eps": 1e-6},
    "open_clip": {},
}
DATA_SETS = ("ImageNet-1k", "V2", "A", "R", "Sketch", "mean of 38")


@dataclass(frozen=True)
class Released:
    """A released model."""

    size: str  # of its configs
    res: int  # pixels a side
    data: str  # that it was trained on
    scores: tuple[float, ...]  # for each of `DATA_SETS`

    @property
    def architecture(self) -> str:
        """Its name in open_clip."""
        size = self.size.replace("G", "bigG")
        return f"ViT-{size}-14-CLIPA{'-336' if self.res == 336 else ''}"

    @property
    def address(self) -> str:
        """Its repository on the Hugging Face hub."""
        return f"{PREFIX}UCSC-VLAA/{self.architecture}-{self.data}"

    @property
    def config(self) -> str:
        """The recipe of its last stage."""
        return f"configs/model_{self.size.lower()}/finetune_{self.res}.py"


MODELS: dict[str, Released] = {
    "clipa-l14-datacomp1b": Released(
        "L", 224, "datacomp1B", (79.57, 73.05, 71.25, 92.88, 70.61, 65.36)
    ),
    "clipa-l14-336-datacomp1b": Released(
        "L", 336, "datacomp1B", (80.26, 73.46, 77.71, 93.29, 70.87, 65.70)
    ),
    "clipa-h14-datacomp1b": Released(
        "H", 224, "datacomp1B", (81.52, 74.98, 77.01, 94.26, 72.72, 66.53)
    ),
    "clipa-h14-336-datacomp1b": Released(
        "H", 336, "datacomp1B", (81.80, 75.62, 82.75, 94.38, 72.82, 66.77)
    ),
    "clipa-h14-336-laion2b": Released(
        "H", 336, "laion2B", (79.10, 72.41, 72.13, 92.69, 69.94, 64.39)
    ),
    "clipa-g14-datacomp1b": Released(
        "G", 224, "datacomp1B", (82.70, 76.99, 81.79, 95.12, 74.31, 68.22)
    ),
    "clipa-g14-336-datacomp1b": Released(
        "G", 336, "datacomp1B", (83.09, 77.26, 85.99, 95.35, 74.54, 68.42)
    ),
}


def find(path: str) -> Released | None:
    """The released model with this short name or address on the hub, of any revision."""
    address = path.partition("@")[0]
    return MODELS.get(path) or next((m for m in MODELS.values() if m.address == address), None)


def numerics_of(name: str) -> dict[str, str | float]:
    """The entry of `NUMERICS`; raises `ConfigError` for unknown names."""
    if name not in NUMERICS:
        raise ConfigError(unknown("numerics", name, NUMERICS))
    return NUMERICS[name]
