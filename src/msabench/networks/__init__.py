"""What networks are made of: batches, layers, the text encoder, and how PyTorch computes."""
