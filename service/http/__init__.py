"""The HTTP side: routes, the page, problem documents, OpenAPI. It translates and decides
nothing."""
