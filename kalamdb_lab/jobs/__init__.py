"""Work with an id and a state: the job manager, and what its jobs do."""
