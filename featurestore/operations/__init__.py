"""What is done with whole stores: verify, repair, copy, merge, grow, export, add labels."""
