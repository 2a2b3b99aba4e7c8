"""What is done with whole stores: verify, repair, copy and merge, grow, export, add labels."""
