"""Training one stage: state, update, checkpoints, metrics and the files of a run."""
