def flows(node, options):
    return []
before = after = slots = lua = delay = quiet = flows
