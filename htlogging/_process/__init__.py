"""Fork, exit, threads and hosts: what happens to the process."""
