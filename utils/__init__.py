"""What knows neither papers nor data sets: measures, results, pictures, processes, files, errors.

It imports nothing else of the project.
"""
