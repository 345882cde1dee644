"""Numbers -> what people read: tables, figures, the page, cards, reviews."""
