"""What knows nothing of pictures and captions: settings, files, devices, errors."""
