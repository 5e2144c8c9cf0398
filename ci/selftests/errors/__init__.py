"""Entries that provoke each error that a user may see; docs/errors.md is written from them."""
