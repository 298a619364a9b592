"""What is bound to a scope, a task or a thread, and blocks that bind."""
