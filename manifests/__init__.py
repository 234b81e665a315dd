"""What is declared and what is recorded: schemas, digests, and the YAML files that users edit.

The ground floor of ssiforge: imports nothing from the other packages.
"""
