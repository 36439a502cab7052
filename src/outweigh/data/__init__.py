"""Files and Hub data sets -> pairs, checked and counted; pairs -> token ids; rows -> files."""
