"""The benchmark's orchestrator: standard library only."""
