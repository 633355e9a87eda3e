"""First-stage engines: where candidates come from when no result file is at hand."""
