"""The demo behind `make demo-outage`: a key server is stopped, continued and killed under a running agent."""
