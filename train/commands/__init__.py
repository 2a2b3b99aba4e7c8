"""What ser-train does beside training one run, a module for each command; those of rankers and curves share one."""
