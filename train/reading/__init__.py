"""What is read from stores: the utterances of several as one, labels, features and their statistics, batches."""
