"""Keys of a batch, shared by the input pipeline, the training step and the evaluators.

B batch, R pixels a side, L text tokens.
"""

IMAGE = "image"  # uint8 (B, R, R, 3)
TOKENS = "tokens"  # int32 (B, L)
CAPTION_HASH = "caption_hash"  # int32 (B,), equal for equal captions
COLOR = "color"  # float32 (B, COLOR_NUMBERS), the color jitter of each picture
MASK = "_mask"  # bool (B,), in evaluation: false for rows of padding and for bad samples

TRAINING_KEYS = (IMAGE, TOKENS, CAPTION_HASH, COLOR)
COLOR_NUMBERS = 10  # a matrix (3, 3) row by row, for colors as rows; the contrast

# The preprocessing ops that add an optional key.
HASH_OP, JITTER_OP = "hash_caption", "jitter"
