"""The modules here are a program, not tests; they import each other by their plain names."""

collect_ignore_glob = ["*.py"]
