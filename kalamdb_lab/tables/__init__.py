"""The rules of USER, SHARED and STREAM tables."""
