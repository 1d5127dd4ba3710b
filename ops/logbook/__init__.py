"""The log as rows: recent lines kept and searched, levels changed live, calls captured, processes profiled, errors in words."""
