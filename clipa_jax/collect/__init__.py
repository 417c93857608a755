"""What many runs came to: a table of their stages, averages over seeds, plots."""
