"""What stands under everything: settings and their rules, files, caches, devices, the Hub, errors."""
