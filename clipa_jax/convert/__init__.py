"""Conversion to and from open_clip, checked for parity; needs PyTorch."""
