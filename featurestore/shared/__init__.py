"""What the commands of both stages share: configs, errors, what is printed, label files, workers; nothing of stores."""
