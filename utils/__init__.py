"""What knows neither papers nor data sets, and imports nothing else of the project."""
