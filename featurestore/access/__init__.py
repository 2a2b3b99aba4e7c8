"""What a user touches: a store and its features to read from, batches of utterances, and the writer of stores."""
