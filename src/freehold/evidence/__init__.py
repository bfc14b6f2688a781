"""What can be shown to others: releases, claims, and files of others that are looked at with care."""
