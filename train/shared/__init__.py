"""Files that are written whole or not at all, and files of tensors; nothing of what is trained."""
