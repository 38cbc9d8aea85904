"""Where a decay rule and an optimizer's native step meet."""
