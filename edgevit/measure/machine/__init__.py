"""What this machine is and does while something is measured: processor, board, sensors."""
