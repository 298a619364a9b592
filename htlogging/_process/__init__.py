"""What a process does to us: fork, exit, its threads, its host."""
