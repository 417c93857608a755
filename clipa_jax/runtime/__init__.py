"""The process around the work: command line, terminal, distributed start, signals."""
