"""What a step and its data cost, measured."""
