"""What training will take, before it is paid for: memory, time and cost of every stage."""
