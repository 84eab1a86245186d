"""What things cost, and how they bear load."""
