"""How passes run: inputs, plan, strategies, schedule, streaming moments, record."""
