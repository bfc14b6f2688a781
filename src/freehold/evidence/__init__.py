"""What a stranger can check: claims made before release, and bundles of evidence."""
