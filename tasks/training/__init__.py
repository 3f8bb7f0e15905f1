"""What the training stages share: models and tokens, generation, checkpoints, trainers, methods of alignment."""
