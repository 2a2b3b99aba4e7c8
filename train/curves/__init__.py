"""How emotion moves within an utterance: its chunks, which utterances raters prefer, rankers of chunks, and curves.

What parts need of chunks, of pairs that raters order, and of a curve over time belongs here; the parts that a config
names (``pooling=chunks``, the tasks ``ranking`` and ``sequence``) lie in the folders of their kinds, and what a run
writes and draws of them in the rooms that do so for all else.

Sources: W.-C. Lin and C. Busso, Chunk-level speech emotion recognition (2021), and Sequential modeling by leveraging
non-uniform distribution of speech emotion (2023).
"""
