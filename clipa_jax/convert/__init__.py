"""Weights across the border: released CLIPA files, and open_clip in both directions.

`rules` (the table), `keys` and `architecture` (the configs), `npz`, `folder` and `weights` (the
files) and `tokenizer` need no PyTorch; `state_file`, `parity` and `travel` do.
"""
