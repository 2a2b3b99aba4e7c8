"""What is learned from: utterances that have all that is asked for, their targets, and the folds that divide them."""
