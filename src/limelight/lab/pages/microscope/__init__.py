"""The page of the microscope: a model reads a text, and its heads can be looked at and changed."""
