"""Raw data: where they come from, and one reader per format, which fills `Utterances`."""
