"""A link shortener in three services: a page, a click counter, a housekeeper."""
