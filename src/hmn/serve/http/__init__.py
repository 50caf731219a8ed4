"""The served model over HTTP: routes, limits, tokens, errors and figures on all of it."""
