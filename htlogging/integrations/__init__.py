"""
Scopes for web frameworks and task queues, one module each.

Each imports its framework; nothing else does. A module says in its first lines how it is
installed. `python -m htlogging docs servers` has the recipes.
"""
