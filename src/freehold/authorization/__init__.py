"""Where may it be used: methods that keep a model working on one domain and make it fail elsewhere."""
