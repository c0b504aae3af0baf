"""What node sets are made of. Users import from nodeset, rangeset and groups, one folder up."""
