"""The process: fork, exit, threads, locks, hosts, loggers, and the log `htlogging`."""
