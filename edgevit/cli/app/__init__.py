"""Sources of the apps that ``edgevit new-app`` makes, as files that compilers read; ``write.py`` takes from them."""
