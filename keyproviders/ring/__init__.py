"""The ring in front of a provider: what it holds, when it asks, and what it does when the provider fails."""
