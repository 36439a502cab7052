"""What each verb does, files in and files out; command line and Python API call the same functions."""
