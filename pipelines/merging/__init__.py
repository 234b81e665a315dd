"""`ssiforge merge`: several corpora become one."""
