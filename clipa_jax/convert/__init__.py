"""Models for other software: open_clip, ONNX and StableHLO, checked for parity."""
