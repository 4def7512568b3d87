"""Pages of what an operator sets: environments, queues and their shares, policies, definitions, consumable resources."""
