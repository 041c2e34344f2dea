"""What the library tells of its operations: the events, who listens, and on whose behalf something is done."""
