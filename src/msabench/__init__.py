"""Tools to compare models of multimodal sentiment analysis and to trust the comparison."""
