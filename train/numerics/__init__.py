"""What is computed on arrays and tensors, wherever they come from: sums over layers, clocks, padding, metrics."""
