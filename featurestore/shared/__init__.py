"""What the commands of both stages share: configs, errors, what is printed, label files; nothing of stores."""
