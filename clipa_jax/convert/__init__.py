"""Weights across the border: released CLIPA files, and open_clip in both directions.

`rules` (the table), `open_clip` (architectures), `npz`, `folder` and `weights` (files) need
neither PyTorch nor open_clip; `state_file`, `parity` and `travel` do.
"""
