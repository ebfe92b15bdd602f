"""The page of the microscope: a model reads a text, and its heads are shown and can be changed."""
