"""The command line: parsing, calling, printing. Nothing heavy is imported before a verb runs."""
