"""The queue in Redis: a stream that any number of processes append to and relays read."""
