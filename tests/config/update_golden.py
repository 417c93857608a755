"""Writes the golden texts of all configs anew; read what changed before you commit it.

python -m tests.config.update_golden
"""

from tests.helpers import golden


def main() -> None:
    golden.FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = golden.stages()
    for file in golden.FOLDER.glob("*.txt"):
        if file.stem not in wanted:
            print(f"removed {file.name}")
            file.unlink()
    for name, (config, arg) in wanted.items():
        file = golden.FOLDER / f"{name}.txt"
        text = golden.text(golden.get_config(config, arg))
        if not file.exists() or file.read_text() != text:
            print(f"wrote {file.name}")
            file.write_text(text)


if __name__ == "__main__":
    main()
