"""One run: its folder, its jobs and who does them, what is seen of it meanwhile, and how it is opened again."""
