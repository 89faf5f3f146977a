"""Which documents are worth training on: rules, duplicates, benchmark texts, and the stages that apply them."""
