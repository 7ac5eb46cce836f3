"""What v1 takes and gives: headers, conditions, and the two spellings in which records go out."""
