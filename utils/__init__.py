"""What knows neither papers nor data sets: measures, the evaluation loop, results, pictures, processes, files, errors.

It imports nothing else of the project.
"""
