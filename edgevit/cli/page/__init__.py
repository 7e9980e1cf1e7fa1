"""The page of ``edgevit report``: bundles to one plain document, and that document to one HTML file."""
