"""Jobs and data sets as OpenLineage events."""
