"""How an image of any size goes through a generator: plan, tiles, schemes, pipeline."""
