"""The commands beside train and evaluate: flags and output; the work is done by the packages."""
