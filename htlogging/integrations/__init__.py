"""
Scopes for web frameworks and task queues, one module each.

Each module imports its framework, and no other module does. Its first lines say how to
install it. `python -m htlogging docs servers` has the recipes.
"""
