"""From predictions for the test parts to figures: with intervals, of classes, of groups, and curves over time."""
