"""`ssiforge degradations`: every stage described, drawn and tried."""
