"""Previously fact-checked claims: given a post, find the article that checked its claim."""
