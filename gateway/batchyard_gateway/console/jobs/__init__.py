"""Pages of jobs: the list, one job, children of an array, submitting, what is done to many."""
