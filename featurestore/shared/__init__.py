"""What the commands of both stages share: configs, errors, output, label files; nothing about stores."""
