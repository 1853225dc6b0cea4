"""What leaves this machine: model cards, uploads, exports."""
